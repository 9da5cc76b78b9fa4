"""One JSON request to a server, with a deadline, a cap on the reply's size, and retries where they may help.

A server that says when to come back (Retry-After) is taken at its word: all threads wait together and in full.

http.client, not a comfortable library: no proxy of the environment is asked (pictures must not leave the machine by
accident), no redirect is followed, and a reply that trickles in for ever meets the deadline.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import random
import socket
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from medsae.naming.completion import error_in, streamed
from medsae.naming.replies import Status
from medsae.progress import UserError

REPLY_LIMIT = 4 * 2**20
"""Bytes of a reply beyond which it is given up."""
_CHUNK = 65_536
PAUSE_SECONDS = 0.5
"""First pause before a retry; it doubles with every further one, up to 30 s."""
LONGEST_WAIT_SECONDS = 300.0
"""A Retry-After beyond this is cut to it."""
_TOLD_SECONDS = 3.0
"""Waits that a server asks for are said from this length on."""
_WAITS = 12
"""Times that one request waits because the server asked it to, beside its tries."""


@dataclass(frozen=True)
class Answer:
    """A server's reply: `body` is None unless status is "ok"; `code` is the HTTP status, 0 when none arrived."""

    status: Status
    body: Any = None
    code: int = 0
    text: str = ""
    attempts: int = 1
    sent: bool = True
    """False when no connection came about."""


class Client:
    """POST and GET of JSON below one base address; safe to use from threads (each has its own connection)."""

    def __init__(
        self, base: str, timeout_seconds: float, key: str | None, attempts: int = 4,
        sleep: Callable[[float], None] = time.sleep, rng: random.Random | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):  # fmt: skip
        """say: where a wait that the server asks for is told."""
        parts = urlsplit(base)
        try:
            self.port = parts.port
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.isprintable() or " " in base:
            raise UserError(f"{base!r} is no address of a server", None, "give one like http://127.0.0.1:8000/v1")
        self.scheme, self.host, self.path = parts.scheme, parts.hostname, parts.path.rstrip("/")
        self.timeout, self.attempts, self.sleep, self.rng = timeout_seconds, attempts, sleep, rng or random.Random()
        host = parts.netloc.rpartition("@")[2]
        headers = f"Host: {host}\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        self.headers = headers + (f"Authorization: Bearer {_one_line(key)}\r\n" if key else "")
        self.local, self.lock = threading.local(), threading.Lock()
        self.opened: set[http.client.HTTPConnection] = set()
        self.say, self.retries, self.closed = say, 0, False
        self.until = 0.0
        """No request is sent before this time (of the monotonic clock): the server asked for it."""

    def close(self) -> None:
        """Close the connections of all threads; an exchange in the middle ends as a broken reply, none begins."""
        with self.lock:
            self.closed = True
            for connection in self.opened:
                connection.close()
            self.opened.clear()

    def get(self, path: str) -> Answer:
        return self._tries("GET", path, None)

    def post(self, path: str, body: bytes) -> Answer:
        return self._tries("POST", path, body)

    def _tries(self, method: str, path: str, body: bytes | None) -> Answer:
        """Retries, with growing jittered pauses, after 429, 5xx and timeouts only."""
        attempt = waits = 0
        while True:
            attempt += 1
            self._wait()
            answer, pause = self._once(method, path, body)
            again = answer.status == "timeout" or answer.code == 429 or answer.code >= 500
            asked = pause is not None and waits < _WAITS
            if not again or self.closed or (attempt - waits >= self.attempts and not asked):
                return Answer(answer.status, answer.body, answer.code, answer.text, attempt, answer.sent)
            with self.lock:
                self.retries += 1
            if pause is not None:
                waits += 1
                self._come_back(pause)
            else:
                self.sleep(min(30.0, PAUSE_SECONDS * 2 ** (attempt - waits)) * (0.5 + self.rng.random() / 2))

    def _come_back(self, seconds: float) -> None:
        """The server asks everyone to come back after `seconds`."""
        wait = min(seconds, LONGEST_WAIT_SECONDS)
        with self.lock:
            until = time.monotonic() + wait
            news = until > self.until + 1.0
            self.until = max(self.until, until)
        if news and wait >= _TOLD_SECONDS:
            cut = f" (it said {seconds:,.0f} s; waited for is at most {wait:.0f} s)" if wait < seconds else ""
            self.say(f"the server asks to wait {wait:.0f} s{cut}: all requests wait")

    def _wait(self) -> None:
        """Until the time that the server asked for, with a moment of our own so that not all arrive at once."""
        while True:
            until = self.until
            left = until - time.monotonic()
            if left <= 0 or self.closed:
                return
            self.sleep(left + 0.05 * self.rng.random())
            if self.until == until:
                return

    def _once(self, method: str, path: str, body: bytes | None) -> tuple[Answer, float | None]:
        """One try; a kept connection that the server closed meanwhile is opened anew, once."""
        deadline = time.monotonic() + self.timeout
        kept = getattr(self.local, "connection", None) is not None
        try:
            return self._exchange(method, path, body, deadline)
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError) as error:
            self._close()
            if kept and not self.closed:
                with contextlib.suppress(OSError, http.client.HTTPException, TimeoutError):
                    return self._exchange(method, path, body, deadline)
                self._close()
            return Answer("broken reply", text=f"the server hung up: {error}"), None
        except TimeoutError:
            self._close()
            return Answer("timeout", text=f"no reply within {self.timeout:g} s"), None
        except (ConnectionError, socket.gaierror) as error:
            self._close()
            return Answer("unreachable", text=str(error), sent=False), None
        except (OSError, http.client.HTTPException) as error:
            self._close()
            return Answer("broken reply", text=f"{type(error).__name__}: {error}"), None
        except (AttributeError, ValueError):  # what http.client does when its socket is taken away in the middle
            if not self.closed:
                raise
            return Answer("broken reply", text="stopped"), None

    def _exchange(self, method: str, path: str, body: bytes | None, deadline: float) -> tuple[Answer, float | None]:
        connection = self._connection(deadline)
        head = f"{method} {self.path}{path} HTTP/1.1\r\n{self.headers}Content-Length: {len(body or b'')}\r\n\r\n"
        # One write: http.client would make two, and each costs a turn at the interpreter while others wait for theirs.
        connection.sock.sendall(head.encode() + (body or b""))
        response = http.client.HTTPResponse(connection.sock, method=method)
        response.begin()
        chunks, size = [], 0
        while chunk := self._read(connection, response, deadline):
            chunks.append(chunk)
            size += len(chunk)
            if size > REPLY_LIMIT:
                self._close()
                return Answer("too long", code=response.status, text=_text(chunks)), None
        if response.length:
            self._close()
            return Answer("broken reply", code=0, text=_text(chunks)), None
        response.close()  # read1 leaves it open at the last byte, and an open reply blocks the next request
        if response.will_close:
            self._close()
        text, code = _text(chunks, response.getheader("Content-Encoding")), response.status
        if code >= 500 or code == 429:
            return Answer("server error", code=code, text=text), _seconds(response.getheader("Retry-After"))
        if code != 200:
            return Answer("rejected", code=code, text=text), None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = streamed(text)
            if found is None:
                return Answer("broken reply", code=code, text=text), None
        error = error_in(found)
        if error is None:
            return Answer("ok", found, code, text), None
        code, said = error
        status: Status = "rejected" if 400 <= code < 500 and code != 429 else "server error"
        return Answer(status, code=code, text=said or text), _seconds(response.getheader("Retry-After"))

    def _read(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: float
    ) -> bytes:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left)
        return response.read1(_CHUNK)

    def _connection(self, deadline: float) -> http.client.HTTPConnection:
        connection = getattr(self.local, "connection", None)
        left = max(0.01, deadline - time.monotonic())
        if connection is None:
            kind = http.client.HTTPSConnection if self.scheme == "https" else http.client.HTTPConnection
            connection = kind(self.host, self.port, timeout=left)
            try:
                connection.connect()
            except BaseException:
                connection.close()
                raise
            # Without this the last piece of a long request waits for an acknowledgement.
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                if self.closed:
                    connection.close()
                    raise ConnectionAbortedError("stopped")
                self.opened.add(connection)
            self.local.connection = connection
        connection.sock.settimeout(left)
        return connection

    def _close(self) -> None:
        connection = getattr(self.local, "connection", None)
        if connection is not None:
            connection.close()
            self.local.connection = None
            with self.lock:
                self.opened.discard(connection)


def _one_line(key: str) -> str:
    if not (key.isascii() and key.isprintable()):
        raise UserError("the server's key holds a line break or a character that no header can carry")
    return key


def _text(chunks: list[bytes], packed: str | None = None) -> str:
    """The words of a reply: unpacked where a proxy packed them unasked, without what would steer a terminal."""
    data = b"".join(chunks)[:REPLY_LIMIT]
    if (packed or "").strip().lower() in ("gzip", "deflate"):
        with contextlib.suppress(zlib.error):
            data = zlib.decompressobj(wbits=47).decompress(data, REPLY_LIMIT)  # 47: gzip or zlib
    text = data.decode("utf-8-sig", errors="replace")
    return text if text.isprintable() else "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def _seconds(header: str | None) -> float | None:
    """Seconds of a Retry-After: a number, a fraction or a date; None for none, and for what is neither."""
    if not header:
        return None
    try:
        seconds = float(header.strip().removesuffix("s"))
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(header.strip()).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return seconds if 0 < seconds < float("inf") else None
