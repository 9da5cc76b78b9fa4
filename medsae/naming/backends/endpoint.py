"""Any server that speaks the OpenAI chat API: vLLM, llama.cpp, LM Studio, Ollama, `transformers serve`.

A JSON schema is asked for and the reply is checked all the same, since some servers ignore it without a word.
Probabilities of yes and no come from the server's logprobs where it gives them; where it does not, a verdict is the
word alone and the run says so. Before a run the first real questions are asked (`rehearse`), and what the server says
to them is turned into what to do. What is not covered: a server that changes its model behind the name.
"""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from medsae.naming import diagnosis
from medsae.naming.backends import Backend, Load, PictureGone, Question, Reply, Study
from medsae.naming.backends.http import Answer, Client
from medsae.naming.backends.several import Several
from medsae.naming.completion import Completion, completion, yes_no
from medsae.naming.replies import judged, parse_explanation
from medsae.progress import Progress, UserError

KEY_VARIABLE = "MEDSAE_ENDPOINT_KEY"
"""Environment variable with the server's key; a key on the command line would end up in logs and records."""
LOST_IN_A_ROW = 25
"""Questions in a row that found no server before the run stops."""
THINKING_TOKENS = 4_096
"""Tokens that a model which cannot be kept from thinking gets on top of its answer's."""
_CACHED_PICTURES = 1024
_SPARE = 2
"""Threads beside those whose requests are in flight: they have the next question encoded when a place comes free."""
_TOP_LOGPROBS = 20
_NO_THINKING = {"chat_template_kwargs": {"enable_thinking": False}}
"""How vLLM, SGLang and llama.cpp are asked not to let the model think."""


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


def make(config: Any, study: Study, progress: Progress) -> Backend:
    """The server of a config, or its several servers, found and looked at; UserError when one cannot be used."""
    assert config.endpoint
    for address in config.endpoint:
        refuse_remote(address, config.allow_remote, progress.say)
    several = len(config.endpoint) > 1
    found = [Endpoint(_server(config, address, _naming(address, progress) if several else progress.say),
                      study.jpeg, config.seed) for address in config.endpoint]  # fmt: skip
    try:
        for endpoint in found:
            endpoint.prepare()
        return Several(found, progress.say) if several else found[0]
    except BaseException:
        for endpoint in found:
            endpoint.close()
        raise


def _server(config: Any, address: str, say: Callable[[str], None]) -> Server:
    return Server(address, config.model, config.concurrency, config.timeout_seconds,
                  key=os.environ.get(KEY_VARIABLE), say=say)  # fmt: skip


def _naming(address: str, progress: Progress) -> Callable[[str], None]:
    """Says a line together with the server that it is about."""
    return lambda line: progress.say(f"{address}: {line}")


@dataclass(frozen=True)
class Server:
    """A server and how it is asked."""

    address: str
    """Base address of an OpenAI-compatible server."""
    model: str | None
    """None: the only one served."""
    concurrency: int = 8
    """Requests in flight."""
    timeout_seconds: float = 120.0
    key: str | None = None
    attempts: int = 4
    sleep: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda line: None


class Endpoint(Backend):
    """One server and model; `concurrency` requests are in flight at most, and always while there are questions.

    `prepare` looks for the server, the model and its eyes; `rehearse` asks the first real questions.
    """

    name, batch = "endpoint", 1

    def __init__(self, server: Server, load: Load, seed: int):
        self.client = Client(
            server.address, server.timeout_seconds, server.key, server.attempts, server.sleep, say=server.say
        )
        self.address, self.model, self.load, self.key = server.address, server.model or "", load, server.key
        self.say = server.say
        self.root: str | None = None
        """What the server says its model was loaded from, where it says so (vLLM)."""
        self.seed = seed
        self.concurrency, self.places = server.concurrency + _SPARE, threading.BoundedSemaphore(server.concurrency)
        self.lock = threading.Lock()
        self.extras: dict[str, Any] = {}
        """Fields that this server needs beside the usual ones."""
        self.left_out: dict[str, str] = {}
        """Field that this server refuses -> its own words."""
        self.top_logprobs = _TOP_LOGPROBS
        self.budget = 0
        """Tokens on top of an answer's, for a model that thinks."""
        self.thinks = False
        self.lost = self.without_logprobs = self.judged = 0
        self.picture_tokens = 0
        """Tokens of one picture, as far as the server's counts tell; 0: unknown."""
        self.rehearsed: dict[tuple[str, tuple[str, ...]], Reply] = {}
        """Answers of the rehearsal: the same question is not asked again."""
        self._uri = lru_cache(_CACHED_PICTURES)(lambda image: _data_uri(load(image)))

    # --- before a run

    def prepare(self) -> None:
        """Find the model and check that it sees: UserError when the server is down, the name is wrong, or it is blind.

        The pictures of this check are grey squares made here, nobody's radiograph.
        """
        listed = self.client.get("/models")
        if listed.status in ("unreachable", "timeout"):
            what = f"no server answers ({listed.text})"
            raise UserError(what, self.address, "start the server, or use --backend labels meanwhile")
        self._check_door(listed, elsewhere=True)
        served = _models(listed.body)
        if self.model and served and self.model not in served:
            raise UserError(f"the server has no model {self.model!r}", self.address, f"it has: {', '.join(served[:8])}")
        if not self.model:
            sent_on = diagnosis.of_code(listed.code, "a model") if listed.status == "rejected" else None
            if sent_on is not None:
                raise UserError(f"{sent_on[0]} (HTTP {listed.code})", self.address, sent_on[1])
            if listed.status == "broken reply":
                raise UserError(f"this is no API, it answers {listed.text.strip()[:80]!r}", self.address,
                                "give the address of the API, which mostly ends in /v1")  # fmt: skip
            if len(served) != 1:
                there = f"it has: {', '.join(served[:8])}" if served else "it names none"
                raise UserError(f"which model? {there}", self.address, "give --model NAME")
            self.model = served[0]
        self.root = _root(listed.body, self.model)
        self._look()

    def answers(self) -> bool:
        """Whether the server is there now: one look for its models, without a second try."""
        client = Client(self.address, min(10.0, self.client.timeout), self.key, 1, self.client.sleep)
        try:
            return client.get("/models").status == "ok"
        finally:
            client.close()

    def _check_door(self, answer: Answer, elsewhere: bool) -> None:
        """UserError for a wrong key or, with the right address where it can be found, a wrong address."""
        if answer.code in (401, 403):
            said = f"the key in {KEY_VARIABLE} is refused" if self.key else "the server wants a key"
            raise UserError(f"{said} (HTTP {answer.code}: {answer.text[:200]})", self.address,
                            f"put the server's key into the environment variable {KEY_VARIABLE}")  # fmt: skip
        if not elsewhere or (answer.status == "ok" and _models(answer.body)):
            return
        if answer.status == "ok" or answer.code in (301, 302, 307, 308, 404, 405) or answer.status == "broken reply":
            for other in diagnosis.other_addresses(self.address):
                # The key stays at home where the other address would carry it in the clear.
                key = self.key if urlsplit(other).scheme in (urlsplit(self.address).scheme, "https") else None
                client = Client(other, min(10.0, self.client.timeout), key, 1, self.client.sleep)
                try:
                    if _models(client.get("/models").body):
                        what = f"there is no chat API at this address (HTTP {answer.code}: {answer.text[:120]})"
                        raise UserError(what, self.address, f"did you mean {other}?")
                finally:
                    client.close()

    def _look(self) -> None:
        text = "Is this square dark? Answer with one word, Yes or No."
        blind = self._send(_messages("", text, []), None, 4, False)
        seeing = self._send(_messages("", text, [_square()]), None, 4, False)
        self._check_door(seeing, elsewhere=False)
        if seeing.code in (404, 405) and blind.code == seeing.code and not diagnosis.no_such_model(seeing.text):
            what = f"there is no chat API at this address (HTTP {seeing.code}: {seeing.text[:200]})"
            do = f"did you mean {' or '.join(diagnosis.other_addresses(self.address))}?"
            raise UserError(what, self.address, do)
        self._check_refusal(seeing)
        if seeing.status == "rejected" or (seeing.status == "server error" and blind.status == "ok"):
            what = f"the model {self.model!r} does not take pictures (HTTP {seeing.code}: {seeing.text[:300]})"
            raise UserError(what, self.address, "serve a model with vision (llama.cpp: also its --mmproj file)")
        if seeing.status != "ok":
            code = f"HTTP {seeing.code}: " if seeing.code else ""
            what = f"the server does not answer a question: {seeing.status} ({code}{seeing.text[:300]})"
            do = "look at its log; --timeout-seconds raises the wait"
            if seeing.code == 429:
                do = "wait until it takes requests again, or ask fewer at once (--concurrency)"
            raise UserError(what, self.address, do)
        counts = [found.tokens_in for a in (blind, seeing) if (found := completion(a.body)) is not None]
        if len(counts) == 2 and all(counts):
            if counts[0] == counts[1]:
                what = f"the server takes pictures but the model {self.model!r} does not see them"
                raise UserError(f"{what} (no tokens for a picture)", self.address, "serve a model with vision")
            self.picture_tokens = max(0, counts[1] - counts[0])

    def _check_refusal(self, seeing: Answer) -> None:
        """UserError when a refused question with one picture says why, and it is not that the model is blind."""
        if seeing.status != "rejected":
            return
        found = diagnosis.of(seeing.text, 1, 0) or diagnosis.of_code(seeing.code, self.model)
        if diagnosis.no_such_model(seeing.text):
            found = f"the server has no model {self.model!r}", "give the name that it serves: --model NAME"
        if found is not None:
            raise UserError(f"{found[0]} (HTTP {seeing.code}: {seeing.text[:300]})", self.address, found[1])

    def rehearse(
        self, explain: Question | None, judge: Callable[[str, str], Question | None], say: Callable[[str], None],
        known: tuple[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Ask the first real questions with all their pictures: UserError, in the server's own words and with what to
        do, when they cannot be answered as things stand; smaller faults are said.

        explain: the first naming question, None when the name is `known`; judge: concept and description -> the first
        question about them, None when all are answered.
        """
        concept, description = known or ("Pleural effusion", "Fluid in the pleural space.")
        replies: list[tuple[Question, Reply]] = []
        if explain is not None:
            replies.append((explain, reply := self._rehearsed(explain, say)))
            name = parse_explanation(reply.text)
            if name.status == "ok":
                concept, description = name.concept, name.description
        question = judge(concept, description)
        if question is not None:
            replies.append((question, reply := self._rehearsed(question, say)))
            usable = reply.status == "ok" and judged(reply.text, reply.p_yes, reply.mass).status == "ok"
            if usable and question.task == "judge" and reply.p_yes is None:
                why = self.left_out.get("logprobs")
                say("the server gives no probabilities (logprobs)" + (f": {why[:160]}" if why else "")
                    + "; verdicts are yes or no alone, without AUROC")  # fmt: skip
        if self.top_logprobs < _TOP_LOGPROBS:
            say(f"the server caps logprobs: {self.top_logprobs} are asked for instead of {_TOP_LOGPROBS}")
        self._stop_when_mute(replies)
        for q, r in replies:
            if r.status == "ok":
                self.rehearsed[q.text, tuple(p.sha256 for p in q.pictures)] = r

    def _stop_when_mute(self, replies: list[tuple[Question, Reply]]) -> None:
        """UserError when no reply says anything."""
        mute = [r for _, r in replies if r.status == "ok" and not r.text.strip() and r.p_yes is None]
        if not mute or len(mute) < len(replies):
            return
        thinking = any(r.thought for r in mute)
        what = "the model thinks until its tokens are used up and never answers" if thinking else (
            "the model's replies are empty" + (" (cut off by the limit of tokens)" if mute[0].cut else ""))  # fmt: skip
        do = diagnosis.NO_THINKING if thinking else "look at the server's log and its chat template"
        raise UserError(f"{what} (tried with {replies[-1][0].max_tokens + self.budget:,} tokens)", self.address, do)

    def _rehearsed(self, question: Question, say: Callable[[str], None]) -> Reply:
        reply = self._ask(question)
        if (reply.thought or (reply.cut and not reply.text.strip())) and not self.thinks:
            reply = self._calm(question, say)
        if reply.status not in ("ok", "unreadable picture"):
            found = diagnosis.of(reply.text, len(question.pictures), self.picture_tokens)
            found = found or diagnosis.of_code(reply.code, self.model)
            if found is not None:
                raise UserError(f"{found[0]}: {reply.text[:300]}", self.address, found[1])
            say(f"rehearsal: {reply.status} ({reply.text[:200]})")
        least = int(0.6 * self.picture_tokens * len(question.pictures))
        if reply.status == "ok" and 0 < reply.tokens_in < least:
            say(f"the server read {reply.tokens_in:,} tokens of a question that has at least "
                f"{self.picture_tokens * len(question.pictures):,}: its context is too small and it cuts questions "
                f"without saying so. {diagnosis.CONTEXT}")  # fmt: skip
        return reply

    def _calm(self, question: Question, say: Callable[[str], None]) -> Reply:
        """A model that thinks: ask it not to; where it cannot be kept from it, give it room."""
        self.thinks = True
        self.extras |= _NO_THINKING
        reply = self._ask(question)
        if reply.status == "ok" and not reply.thought and reply.text.strip():
            say("the model thinks before it answers; it is asked not to (chat_template_kwargs: enable_thinking false)")
            return reply
        for field in _NO_THINKING:
            self.extras.pop(field, None)
        self.budget = THINKING_TOKENS
        reply = self._ask(question)
        say(f"the model thinks before it answers: its budget is raised by {THINKING_TOKENS:,} tokens a question, which "
            f"costs time. {diagnosis.NO_THINKING}")  # fmt: skip
        return reply

    # --- a run

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        return [self.known(question) or self._ask(question) for question in questions]

    def known(self, question: Question) -> Reply | None:
        """The rehearsal's answer to a question, once."""
        if not self.rehearsed:
            return None
        with self.lock:
            return self.rehearsed.pop((question.text, tuple(p.sha256 for p in question.pictures)), None)

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"retries": self.client.retries}
        if self.judged and self.without_logprobs:
            facts["without_probability"] = self.without_logprobs
            facts["note"] = f"{self.without_logprobs} of {self.judged} verdicts came without logprobs: yes or no alone"
        if "response_format" in self.left_out:
            facts["schema"] = "the server refuses json_schema: replies were checked only here"
        if self.budget:
            facts["thinking"] = f"the model thinks before it answers: {self.budget} more tokens a question"
        if self.extras:
            facts["extras"] = self.extras
        if self.left_out:
            facts["left_out"] = self.left_out
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
            return Reply(answer.status, answer.text, seconds=time.monotonic() - began, attempts=answer.attempts,
                         code=answer.code)  # fmt: skip
        found = completion(answer.body)
        if found is None:
            return Reply("broken reply", answer.text, seconds=time.monotonic() - began, attempts=answer.attempts)
        return self._reply(found, judging, time.monotonic() - began, answer.attempts)

    def _reply(self, found: Completion, judging: bool, seconds: float, attempts: int) -> Reply:
        p_yes = mass = None
        if judging:
            if found.text.strip() or not found.thought:
                p_yes, mass = yes_no(found.logprobs, found.text, found.thought)
            with self.lock:
                self.judged += 1
                self.without_logprobs += p_yes is None
        return Reply("ok", found.text, p_yes, mass, seconds, found.tokens_in, found.tokens_out, attempts,
                     found.thought, found.cut)  # fmt: skip

    def _send(self, messages: list[Any], schema: Any, max_tokens: int, judging: bool) -> Answer:
        """One question. A field that the server refuses in its own words is left out or made smaller from then on."""
        plain = False
        for _ in range(6):
            body = self._body(messages, schema, max_tokens, judging and not plain, plain)
            answer = self._post(body)
            if answer.code not in (400, 422):
                if plain and answer.status == "ok":
                    for field in ("response_format", "logprobs"):
                        if (schema if field == "response_format" else judging) and field not in self.left_out:
                            self._leave_out(field, "the server refused a question with it and answered one without")
                return answer
            if self._adapt(answer.text, body):
                continue
            extras = {"response_format", "logprobs"} & body.keys()
            if plain or not extras or diagnosis.of(answer.text, 1, 0) is not None:
                return answer
            plain = True  # some servers refuse what they do not know without naming it: ask plainly
        return answer

    def _body(self, messages: list[Any], schema: Any, max_tokens: int, logprobs: bool, plain: bool) -> dict[str, Any]:
        with self.lock:
            body: dict[str, Any] = {"model": self.model, "messages": messages, "max_tokens": max_tokens + self.budget,
                                    "temperature": 0, "seed": self.seed, "stream": False} | self.extras  # fmt: skip
            if schema is not None and not plain:
                form = {"name": "answer", "schema": schema, "strict": True}
                body["response_format"] = {"type": "json_schema", "json_schema": form}
            if logprobs and self.top_logprobs:
                body |= {"logprobs": True, "top_logprobs": self.top_logprobs}
            for field in self.left_out:
                value = body.pop(field, None)
                if field == "max_tokens" and value is not None:
                    body["max_completion_tokens"] = value
                if field == "logprobs":
                    body.pop("top_logprobs", None)
        return body

    def _adapt(self, said: str, body: dict[str, Any]) -> bool:
        """Whether another try makes sense: the server's words name a field that can be made smaller or left out."""
        cap = diagnosis.logprobs_cap(said)
        if cap is not None and "top_logprobs" in body:
            with self.lock:
                fits = body["top_logprobs"] > cap
                self.top_logprobs = min(self.top_logprobs, cap)
            if fits and cap:
                return True
        if not body.get("stream", True) and diagnosis.wants_stream(said):
            with self.lock:
                self.extras["stream"] = True
            return True
        refused = diagnosis.refused_field(said, list(body))
        if refused is None:
            return False
        self._leave_out("logprobs" if refused == "top_logprobs" else refused, said)
        return True

    def _leave_out(self, field: str, said: str) -> None:
        with self.lock:
            self.left_out.setdefault(field, said[:300])
            self.extras.pop(field, None)

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


def _messages(system: str, text: str, uris: list[str]) -> list[Any]:
    content = [{"type": "image_url", "image_url": {"url": uri}} for uri in uris] + [{"type": "text", "text": text}]
    # The system line goes into the user's turn: Gemma has no system role, and its servers differ in how they fold it.
    if system:
        content.insert(0, {"type": "text", "text": system})
    return [{"role": "user", "content": content}]


def _models(body: Any) -> list[str]:
    data = body.get("data") if isinstance(body, dict) else None
    names = [m.get("id") for m in data if isinstance(m, dict)] if isinstance(data, list) else []
    return [n for n in names if isinstance(n, str)]


def _root(body: Any, model: str) -> str | None:
    data = body.get("data") if isinstance(body, dict) else None
    entries = [m for m in data if isinstance(m, dict) and m.get("id") == model] if isinstance(data, list) else []
    root = entries[0].get("root") if entries else None
    return root if isinstance(root, str) else None


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


@lru_cache(1)
def _square() -> str:
    buffer = io.BytesIO()
    Image.new("L", (224, 224), 128).save(buffer, "JPEG")
    return _data_uri(buffer.getvalue())
