"""Bad replies and failing servers: nothing is counted that was not said, and every neuron is named or listed.

The short form asks a few questions of each kind; `MEDSAE_FAULTS=long` asks 150 of each and prints the table:

    MEDSAE_FAULTS=long python -m pytest tests/faults/test_replies.py -s
"""

import base64
import gzip
import json
import math
import os
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from medsae import config as c
from medsae.progress import Silent, UserError
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw  # pyright: ignore[reportMissingImports]

LONG = os.environ.get("MEDSAE_FAULTS") == "long"
REPLIES = 150 if LONG else 60
"""Replies of each kind; in the short form, of all kinds together."""
TABLE: list[str] = []


def status(code, body=b"{}", **headers):
    return lambda handler: handler.reply(code, body, **headers)


def cut_off(handler):
    handler.send_response(200)
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"message": {"content": "Ye')
    handler.close_connection = True


def hang_up(handler):
    handler.close_connection = True


def silence(handler):
    time.sleep(0.4)
    handler.close_connection = True


def message(**fields):
    choice = {"index": 0, "finish_reason": fields.pop("finish", "stop"), "message": {"role": "assistant"} | fields}
    return {"choices": [choice], "usage": {"prompt_tokens": 4500, "completion_tokens": 3}}


def odd(value):
    top = [{"token": "Yes", "logprob": value}, {"token": "No", "logprob": value}]
    return nw.completion("Yes", {"content": [{"token": "Yes", "logprob": value, "top_logprobs": top}]})


GARBLED = base64.b64encode(bytes(range(256))).decode()
# What is usable in an odd dress: the honest answer `a` must come through.
DRESSED = {
    "thinking in <think>": lambda a: f"<think>Is it? Yes. No.</think>\n{a}",
    "thinking of MedGemma 1.5": lambda a: f"<unused94>thought\nYes or {{no}}?<unused95>{a}",
    "thinking closed, not opened": lambda a: f"No. {{}} Yes.</think>{a}",
    "thinking in its own field": lambda a: message(content=a, reasoning_content="No. Yes."),
    "a list of parts": lambda a: message(content=[{"type": "text", "text": a[:3]}, {"type": "text", "text": a[3:]}]),
    "a code fence": lambda a: f"```json\n{a}\n```",
    "trailing comma, capital keys": lambda a: a.replace("concept", "Concept").replace('"}', '",\n}'),
    "single quotes": lambda a: str(json.loads(a)) if a.startswith("{") else f"'{a}'",
    "typographic quotes": lambda a: (
        a.replace('{"', "{\u201c")
        .replace('": "', "\u201d: \u201c")
        .replace('", "', "\u201d, \u201c")
        .replace('"}', "\u201d}")
    ),
    "headings instead of an object": lambda a: (
        "".join(f"**{k.title()}:** {v}\n" for k, v in json.loads(a).items()) if a.startswith("{") else f"**{a}**"
    ),
    "one part, not in a list": lambda a: message(content={"type": "text", "text": a}),
    "packed": lambda a: status(200, gzip.compress(json.dumps(message(content=a)).encode()), Content_Encoding="gzip"),
    "in pieces": lambda a: status(
        200,
        b"".join(
            b"data: %b\n\n" % json.dumps({"choices": [{"delta": {"content": c}}]}).encode() for c in (a[:2], a[2:])
        )
        + b"data: [DONE]\n",
    ),
    "a byte order mark": lambda a: status(200, b"\xef\xbb\xbf" + json.dumps(message(content=a)).encode()),
    "a preface": lambda a: f"Answer: {a}",
}
# What says nothing: it must be counted as nothing.
NOTHING = {
    "empty": "", "blank": " \n\t", "null": message(content=None), "prose": "The radiograph is of good quality.",
    "truncated JSON": '{"concept": "Amber opa', "other keys": '{"title": "Amber opacity"}', "Maybe": "Maybe",
    "both": "Yes and no, or no and yes", "refusal": "I'm sorry, but I can't help with medical pictures.",
    "another language": "Oui, c'est une opacité de la base gauche avec un épanchement.", "base64": GARBLED,
    "huge": "Amber " * 40_000, "only thinking": message(content="", reasoning_content="hm", finish="length"),
    "thinking without end": "<think>It may be yes, it may be no", "NaN logprobs": odd(math.nan), "logprobs of 3": odd(3.0),
    "null choices": {"choices": None}, "no choices": {"choices": []}, "content is a number": message(content=3),
    "error with status 200": {"error": {"message": "Rate limit exceeded", "code": 429}},
    "a refusal in its own field": message(content=None, refusal="I'm sorry, but I can't help with that."),
    "a filter of contents": message(content="", finish="content_filter"), "elsewhere": status(307, b"", Location="/x"),
    "too large": status(413, b"<html>413"), "HTML with status 200": status(200, b"<html><h1>Sign in</h1></html>"), "not UTF-8": status(200, b"\xff\xfe\x00{"),
    "half a reply": cut_off, "hung up": hang_up, "no reply": silence, "400": status(400, b'{"error": "bad request"}'),
    "500": status(500, b"<html>Internal Server Error</html>"), "429": status(429, b"{}", Retry_After="0.01"),
    "503": status(503, b'{"detail": "overloaded"}'),
}  # fmt: skip


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    yield nw.build(tmp_path_factory.mktemp("world"), images=260, neurons=4, share=0.5)
    if LONG:
        print("\n".join(["", f"{'kind':32}{'replies':>8}{'wrong':>7}{'lost':>6}  how it was counted", *TABLE]))


@pytest.fixture
def world(original, tmp_path, monkeypatch):
    for kind in ("cohort", "embeddings", "sae", "scores"):
        (tmp_path / "artifacts" / kind).mkdir(parents=True)
        for path in (original.data / "artifacts" / kind).iterdir():
            (tmp_path / "artifacts" / kind / path.name).symlink_to(path)
    monkeypatch.setattr("medsae.naming.backends.http.PAUSE_SECONDS", 0.001)
    monkeypatch.setattr("medsae.naming.backends.endpoint.LOST_IN_A_ROW", 10_000)
    return nw.World(
        tmp_path, *(getattr(original, k) for k in ("scores", "cohort", "truth_nk", "factor_of", "fires_nm"))
    )


def ask(world, address, **options):
    options = {"audit": False, "pictures": 5, "controls": False, "timeout_seconds": 5.0, "concurrency": 8} | options
    config = c.Name(scores=world.scores, backend="endpoint", endpoint=address, **options)
    return name(config, Store(world.data), Silent())


KINDS = {kind: [kind] for kind in (*DRESSED, *NOTHING)} if LONG else {"dressed": [*DRESSED], "nothing": [*NOTHING]}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_reply_is_never_a_name_or_a_verdict(world, kind):
    """All replies of a kind are bad for two thirds of the questions; the oracle does not err, so every verdict that is
    counted must be right, and every neuron has a row."""
    server, sent = nw.Server(world, logprobs=False), Counter()

    def mangle(text, pictures, count):
        if nw._uniform(f"{kind}{count}") < 0.33:
            return None
        one = KINDS[kind][sent["bad"] % len(KINDS[kind])]
        sent["bad"] += 1
        return NOTHING[one] if one in NOTHING else DRESSED[one](server.answer(text, server.requests[count][1])[0])

    server.mangle = mangle
    takes = 0
    with server.serve() as address:
        while sent["bad"] < REPLIES and takes < 40:
            try:
                ask(world, address, neurons="0,1,2", pictures=10 if LONG else 5, again=takes > 0,
                    timeout_seconds=0.3 if "no reply" in KINDS[kind] else 5.0)  # fmt: skip
            except UserError as told:
                assert "failed alike" in str(told) or "rehearsal" in str(told) or "never answers" in str(told) \
                    or "does not take pictures" in str(told) or "replies are empty" in str(told)  # fmt: skip
            takes += 1
    ledger = Ledger(Store(world.data), world.scores)
    names = ledger.names()
    wrong = lost = 0
    counted = Counter()
    for row in names.to_dict("records"):
        if row["status"] != "ok":
            assert not isinstance(row["concept"], str) or not row["concept"]
            counted[row["status"]] += 1
            continue
        wrong += row["concept"] != nw.FACTORS[int(row["neuron"])]
        verdicts = ledger.verdicts(row["run"], int(row["neuron"]))
        lost += int(row["asked"]) - len(verdicts)
        for verdict in verdicts.to_dict("records"):
            counted[verdict["status"]] += 1
            wrong += verdict["status"] == "ok" and bool(verdict["yes"]) != bool(verdict["fires"])
            assert (verdict["status"] == "ok") == (not pd.isna(verdict["yes"]))
    said = ", ".join(f"{n} {what}" for what, n in counted.most_common())
    TABLE.append(f"{kind:32}{sent['bad']:>8}{wrong:>7}{lost:>6}  {said}")
    assert (wrong, lost) == (0, 0) and sent["bad"] >= min(REPLIES, 12)
    if KINDS[kind][0] in DRESSED:
        assert set(counted) == {"ok"}, "what can be understood is understood"


def test_a_third_of_the_requests_fail_and_every_neuron_is_named_or_listed(world):
    """30 % of the requests end in one of six ways; at most 1.6 times the calls."""
    ways = [status(500), status(503), status(429, b"{}", Retry_After="0.02"), cut_off, hang_up, status(502, b"<html>")]

    def mangle(text, pictures, count):
        roll = nw._uniform(f"fails {count}")
        return ways[int(roll * 20) % len(ways)] if roll < 0.3 else None

    server = nw.Server(world, mangle=mangle)
    with server.serve() as address:
        found = ask(world, address, all=True, pictures=25 if LONG else 10, controls=True)
        calls = len(server.requests)
        again = ask(world, address, all=True, pictures=25 if LONG else 10, controls=True)
    names = Ledger(Store(world.data), world.scores).names()
    planned = found["asked"] + found["reused"]
    TABLE.append(
        f"{'30 % of requests fail':32}{calls:>8}{0:>7}{4 - len(names):>6}  {calls / found['asked']:.2f} x the calls"
    )
    assert len(names) == 4 and calls <= 1.6 * found["asked"] and planned >= 4 * 31
    assert names["accuracy"].dropna().eq(1.0).all() and again["exit"] in (0, 3)
