"""Any server that speaks the OpenAI chat API: vLLM, llama.cpp, LM Studio, Ollama, `transformers serve`.

A JSON schema is asked for and the reply is checked all the same, since some servers ignore it without a word.
Probabilities of yes and no come from the server's logprobs where it gives them; where it does not, a verdict is the
word alone and the run says so. What is not covered: a server that changes its model behind the name.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import math
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from medsae.naming.backends import Load, PictureGone, Question, Reply
from medsae.naming.backends.http import Answer, Client
from medsae.progress import UserError

KEY_VARIABLE = "MEDSAE_ENDPOINT_KEY"
"""Environment variable with the server's key; a key on the command line would end up in logs and records."""
LOST_IN_A_ROW = 25
"""Questions in a row that found no server before the run stops."""
_CACHED_PICTURES = 1024
_SPARE = 2
"""Threads beside those whose requests are in flight: they have the next question encoded when a place comes free."""
_TOP_LOGPROBS = 20


def is_loopback(address: str) -> bool:
    """True for localhost and literal loopback addresses; any other name could point anywhere."""
    host = urlsplit(address).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_remote(address: str, allowed: bool, say: Callable[[str], None]) -> None:
    """UserError for an address outside this machine unless allowed; then what leaves the machine is said."""
    if is_loopback(address):
        return
    leaves = (
        f"{urlsplit(address).hostname or address} is not this machine. What would leave it: the radiographs shown to "
        "the model (pixels as JPEG, at most 896 px, without file names, patients or labels) and the prompts"
    )
    if not allowed:
        raise UserError(leaves, address, "if you may send them there, add --allow-remote; else use a local server")
    say(f"--allow-remote: {leaves.replace('What would leave it', 'What leaves it')}")


class Endpoint:
    """One server and model; `concurrency` requests are in flight at most, and always while there are questions.

    `prepare` looks for the server, the model and its eyes before a run.
    """

    name, batch = "endpoint", 1

    def __init__(
        self, address: str, model: str | None, load: Load, *, concurrency: int, timeout_seconds: float, seed: int,
        key: str | None = None, attempts: int = 4, sleep: Callable[[float], None] = time.sleep,
    ):  # fmt: skip
        self.client = Client(address, timeout_seconds, key, attempts, sleep)
        self.address, self.model, self.load = address, model or "", load
        self.seed = seed
        self.concurrency, self.places = concurrency + _SPARE, threading.BoundedSemaphore(concurrency)
        self.lock = threading.Lock()
        self.schema = self.logprobs = True
        self.lost = self.without_logprobs = self.judged = 0
        self._uri = lru_cache(_CACHED_PICTURES)(lambda image: _data_uri(load(image)))

    def prepare(self) -> None:
        """Find the model and check that it sees: UserError when the server is down, the name is wrong, or it is blind.

        The pictures of this check are grey squares made here, nobody's radiograph.
        """
        listed = self.client.get("/models")
        if listed.status in ("unreachable", "timeout"):
            what = f"no server answers ({listed.text})"
            raise UserError(what, self.address, "start the server, or use --backend labels meanwhile")
        served = _models(listed.body)
        if self.model and served and self.model not in served:
            raise UserError(f"the server has no model {self.model!r}", self.address, f"it has: {', '.join(served[:8])}")
        if not self.model:
            if len(served) != 1:
                there = f"it has: {', '.join(served[:8])}" if served else "it names none"
                raise UserError(f"which model? {there}", self.address, "give --model NAME")
            self.model = served[0]
        self._look()

    def _look(self) -> None:
        text = "Is this square dark? Answer with one word, Yes or No."
        blind = self._send(_messages("", text, []), None, 4, False)
        seeing = self._send(_messages("", text, [_square()]), None, 4, False)
        if seeing.status == "rejected" or (seeing.status == "server error" and blind.status == "ok"):
            what = f"the model {self.model!r} does not take pictures (HTTP {seeing.code}: {seeing.text[:300]})"
            raise UserError(what, self.address, "serve a model with vision (llama.cpp: also its --mmproj file)")
        if seeing.status != "ok":
            what = f"the server does not answer a question: {seeing.status} (HTTP {seeing.code}: {seeing.text[:300]})"
            raise UserError(what, self.address, "look at its log; --timeout-seconds raises the wait")
        counts = [_usage(a.body)[0] for a in (blind, seeing) if a.status == "ok"]
        if len(counts) == 2 and all(counts) and counts[0] == counts[1]:
            what = f"the server takes pictures but the model {self.model!r} does not see them (no tokens for a picture)"
            raise UserError(what, self.address, "serve a model with vision")

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self._ask(question) for question in questions]

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"retries": self.client.retries}
        if self.judged and self.without_logprobs:
            facts["without_probability"] = self.without_logprobs
            facts["note"] = f"{self.without_logprobs} of {self.judged} verdicts came without logprobs: yes or no alone"
        if not self.schema:
            facts["schema"] = "the server refuses json_schema: replies were checked only here"
        return facts

    def close(self) -> None:
        self.client.close()

    def _ask(self, question: Question) -> Reply:
        began = time.monotonic()
        try:
            uris = [self._uri(picture.image) for picture in question.pictures]
        except PictureGone as gone:
            return Reply("unreadable picture", str(gone))
        messages = _messages(question.system, question.text, uris)
        judging = question.task == "judge"
        answer = self._send(messages, question.schema, question.max_tokens, judging)
        self._count_lost(answer)
        if answer.status != "ok":
            return Reply(answer.status, answer.text, seconds=time.monotonic() - began, attempts=answer.attempts)
        text, logprobs = _content(answer.body)
        if text is None:
            return Reply("broken reply", answer.text, seconds=time.monotonic() - began, attempts=answer.attempts)
        p_yes, mass = yes_no(logprobs) if judging else (None, None)
        if judging:
            with self.lock:
                self.judged += 1
                self.without_logprobs += p_yes is None
        tokens_in, tokens_out = _usage(answer.body)
        return Reply("ok", text, p_yes, mass, time.monotonic() - began, tokens_in, tokens_out, answer.attempts)

    def _send(self, messages: list[Any], schema: Any, max_tokens: int, judging: bool) -> Answer:
        body = {"model": self.model, "messages": messages, "max_tokens": max_tokens, "temperature": 0,
                "seed": self.seed, "stream": False}  # fmt: skip
        extras = {}
        if schema is not None and self.schema:
            form = {"name": "answer", "schema": schema, "strict": True}
            extras["response_format"] = {"type": "json_schema", "json_schema": form}
        if judging and self.logprobs:
            extras |= {"logprobs": True, "top_logprobs": _TOP_LOGPROBS}
        answer = self._post(body | extras)
        if answer.code in (400, 422) and extras:
            # Some servers refuse what they do not know: ask plainly, and remember which extra it was.
            plain = self._post(body)
            if plain.status == "ok":
                with self.lock:
                    self.schema = self.schema and "response_format" not in extras
                    self.logprobs = self.logprobs and "logprobs" not in extras
                return plain
        return answer

    def _post(self, body: dict[str, Any]) -> Answer:
        data = json.dumps(body).encode()
        with self.places:
            return self.client.post("/chat/completions", data)

    def _count_lost(self, answer: Answer) -> None:
        with self.lock:
            self.lost = self.lost + 1 if answer.status in ("unreachable", "timeout") else 0
            if self.lost >= LOST_IN_A_ROW:
                what = f"the server is gone: {self.lost} questions in a row found none ({answer.text})"
                raise UserError(what, self.address, "start it again, then run the same command: answers are kept")


def yes_no(logprobs: Any) -> tuple[float | None, float | None]:
    """P(yes) / (P(yes) + P(no)) and P(yes) + P(no) at the first token that begins with yes or no; None without one.

    logprobs: the list `choices[0].logprobs.content` of the chat API. Variants (" Yes", "YES", '"no') are added up.
    A NaN or a positive logprob gives NaN, which is no verdict.
    """
    for position in logprobs if isinstance(logprobs, list) else []:
        if not isinstance(position, dict) or _word(position.get("token")) is None:
            continue
        mass = {"yes": 0.0, "no": 0.0}
        top = position.get("top_logprobs")
        for entry in top if isinstance(top, list) and top else [position]:
            word = _word(entry.get("token")) if isinstance(entry, dict) else None
            if word is not None:
                value: Any = entry.get("logprob")
                known = isinstance(value, (int, float)) and value <= 1e-3
                mass[word] += math.exp(min(value, 0.0)) if known else math.nan
        total = mass["yes"] + mass["no"]
        return (mass["yes"] / total if total else math.nan), total
    return None, None


def _word(token: Any) -> str | None:
    word = token.strip(" \t\n\"'▁Ġ*.{").lower() if isinstance(token, str) else ""
    return word if word in ("yes", "no") else None


def _messages(system: str, text: str, uris: list[str]) -> list[Any]:
    content = [{"type": "image_url", "image_url": {"url": uri}} for uri in uris] + [{"type": "text", "text": text}]
    # The system line goes into the user's turn: Gemma has no system role, and its servers differ in how they fold it.
    if system:
        content.insert(0, {"type": "text", "text": system})
    return [{"role": "user", "content": content}]


def _content(body: Any) -> tuple[str | None, Any]:
    try:
        choice = body["choices"][0]
        text = choice["message"]["content"]
        logprobs = (choice.get("logprobs") or {}).get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None, None
    return (text if isinstance(text, str) else "" if text is None else None), logprobs


def _usage(body: Any) -> tuple[int, int]:
    usage = body.get("usage") if isinstance(body, dict) else None
    usage = usage if isinstance(usage, dict) else {}
    counts = [usage.get(k) for k in ("prompt_tokens", "completion_tokens")]
    return tuple(c if isinstance(c, int) and c >= 0 else 0 for c in counts)  # pyright: ignore[reportReturnType]


def _models(body: Any) -> list[str]:
    data = body.get("data") if isinstance(body, dict) else None
    names = [m.get("id") for m in data if isinstance(m, dict)] if isinstance(data, list) else []
    return [n for n in names if isinstance(n, str)]


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


@lru_cache(1)
def _square() -> str:
    buffer = io.BytesIO()
    Image.new("L", (224, 224), 128).save(buffer, "JPEG")
    return _data_uri(buffer.getvalue())
