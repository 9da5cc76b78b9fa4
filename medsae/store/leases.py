"""Claims in a bucket: one machine at a time builds an artifact (docs/decisions/166).

A claim is an object `claims/<id>/<n>` that is created exclusively, so of several machines one gets number n. Who holds
it writes it anew every few seconds; one that was not written for as long as its lease is of a machine that is gone, and
number n + 1 may be taken. The highest number counts, and numbers only grow until the artifact is published: two that
take over at once, one of them late, never both hold. Ages are differences of two times of the bucket's own clock, so
machines whose clocks are apart agree.

A claim saves work, it protects nothing: what is published is decided by the exclusive write of artifact.json.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace

from medsae import objects, seals
from medsae.progress import UserError

LEASE_SECONDS = 120.0
"""A machine that has not been heard of for so long is gone."""
_LARGEST = 2**14


@dataclass(frozen=True)
class Claim:
    """Who builds an artifact."""

    host: str
    pid: int
    machine: str
    """The local copy of the bucket that it builds in: the lock on its disk says whether somebody does."""
    begun: float
    """Unix time by the builder's clock: shown, and compared with nothing."""
    lease: float = LEASE_SECONDS
    """Seconds after the last writing for which it holds."""
    ended: bool = False
    token: str = ""


@contextlib.contextmanager
def held(url: str, id: str, machine: str, published: Callable[[], bool]) -> Iterator[None]:
    """Hold the claim on an artifact in the bucket's folder `url` of its claims while the block runs. Afterwards, where
    it is `published`, no claim on it is needed any more.

    UserError while another machine holds it. Raises PermissionError and OSError."""
    objects.need_create(url.rpartition("/")[0])
    own = Claim(platform.node(), os.getpid(), machine, time.time(), LEASE_SECONDS, token=secrets.token_hex(8))
    place = _taken(url, id, own)
    stop = threading.Event()
    thread = threading.Thread(target=_renewed, args=(place, own, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with contextlib.suppress(OSError):  # it ends by itself when its lease does
            _forget(url) if published() else objects.put(place, _text(replace(own, ended=True)))


def _forget(url: str) -> None:
    for entry in objects.entries(url):
        if _newest([entry]):
            objects.remove(f"{url}/{entry.path}")


def _taken(url: str, id: str, own: Claim) -> str:
    """The address of our claim."""
    number = 0  # nearly always nobody is there: who finds number 1 taken looks
    while True:
        if number and (other := _read(url, number)) is not None and not _may_follow(url, number, other, own):
            raise _busy(url, number, id, other)
        place = f"{url}/{number + 1:06}"
        made = objects.create(place, _text(own))
        newest = _newest(objects.entries(url))
        if made and newest == number + 1:
            return place
        number = newest


def _may_follow(url: str, number: int, other: Claim, own: Claim) -> bool:
    """Whether a claim holds no more; whoever asks holds the lock on the disk of his own machine."""
    return other.ended or other.machine == own.machine or _age(url, number) >= other.lease


def _age(url: str, number: int) -> float:
    """Seconds since a claim was written last, by the bucket's clock; endless where it is gone."""
    seconds = [entry.second for entry in objects.entries(url) if entry.path == f"{number:06}"]
    return objects.now(url) - seconds[0] if seconds else float("inf")


def _busy(url: str, number: int, id: str, other: Claim) -> UserError:
    left = max(1.0, other.lease - _age(url, number))
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(other.begun))
    what = f"{id} is being built on {other.host} (process {other.pid}, since {since})"
    return UserError(what, url, f"wait for it; if that machine is gone, its claim ends in {left:.0f} s, and the same "
                     "command goes on")  # fmt: skip


def _newest(entries: list[objects.Entry]) -> int:
    """The highest number of the claims; 0 where there is none."""
    return max((int(entry.path) for entry in entries if entry.path.isascii() and entry.path.isdigit()), default=0)


def _read(url: str, number: int) -> Claim | None:
    """A claim; None where it is gone or is none, which keeps nobody from taking the next number."""
    try:
        found = seals.opened(objects.read(f"{url}/{number:06}", _LARGEST)).values
        return Claim(str(found["host"]), int(found["pid"]), str(found["machine"]), float(found["begun"]),
                     float(found["lease"]), bool(found["ended"]), str(found["token"]))  # fmt: skip
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _text(claim: Claim) -> bytes:
    return seals.text(asdict(claim)).encode()


def _renewed(place: str, own: Claim, stop: threading.Event) -> None:
    while not stop.wait(own.lease / 4):
        with contextlib.suppress(OSError):  # the next time, or another machine goes on
            objects.put(place, _text(own))
