"""What a chat server sent back, as one thing: the text of the answer, whether the model thought first, why it ended.

Servers differ: `content` is a text, a list of parts or null; thinking stands in a field of its own or in the text; an
error comes with the status 200. Nothing here trusts the body.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

_THINKING = ("reasoning_content", "reasoning", "thinking")
"""Fields in which vLLM, SGLang, llama.cpp, OpenRouter and Ollama put what a model thought."""
_MARKS = (
    ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"), ("<unused94>", "<unused95>"), ("<thoughts>", "</thoughts>"),
    ("<scratchpad>", "</scratchpad>"), ("<analysis>", "</analysis>"), ("<reflection>", "</reflection>"),
    ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"), ("<seed:think>", "</seed:think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|channel|>analysis<|message|>", "<|end|>"),
    ("<|channel|>thought", "<channel|>"),
)  # fmt: skip
"""How models mark thinking within their text (MedGemma 1.5: the unused tokens)."""
_LEFT_OVER = re.compile(
    r"<\|start\|>assistant|<\|channel\|>final<\|message\|>|<\|return\|>|<\|end\|>|</?answer>|<\|im_end\|>"
)


@dataclass(frozen=True)
class Completion:
    """One answer of a model."""

    text: str
    """What it answered, thinking left out; may be empty."""
    thought: bool = False
    """It thought before (or instead of) answering."""
    cut: bool = False
    """It was stopped by the limit of tokens."""
    logprobs: Any = None
    """`choices[0].logprobs.content` as it came."""
    tokens_in: int = 0
    tokens_out: int = 0


def completion(body: Any) -> Completion | None:
    """The answer in the JSON body of a chat completion; None where there is none."""
    try:
        choice = body["choices"][0]
        # A server of plain completions gives the text itself.
        message = choice["message"] if "message" in choice else {"content": choice["text"]}
        content = message.get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    text = _joined(content)
    if text is None:
        return None
    if not text.strip() and isinstance(message.get("refusal"), str):
        text = message["refusal"]
    if not text.strip():
        text = _called(message.get("tool_calls"))
    logprobs = choice.get("logprobs")
    logprobs = (logprobs.get("content") or _older(logprobs)) if isinstance(logprobs, dict) else None
    text, thought = without_thinking(text)
    thought = thought or any(isinstance(message.get(k), str) and message[k].strip() for k in _THINKING)
    usage = body.get("usage") if isinstance(body.get("usage"), dict) else {}
    counts = [usage.get(k) for k in ("prompt_tokens", "completion_tokens")]
    tokens_in, tokens_out = (c if isinstance(c, int) and c >= 0 else 0 for c in counts)
    return Completion(text, thought, choice.get("finish_reason") == "length", logprobs, tokens_in, tokens_out)


def _called(calls: Any) -> str:
    """The arguments of the one function that a model called instead of answering: the answer in its schema; or ""."""
    try:
        arguments = calls[0]["function"]["arguments"] if len(calls) == 1 else ""
    except (KeyError, IndexError, TypeError):
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments)


def _older(logprobs: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The places of logprobs as plain completions give them: lists beside each other, a dictionary a token."""
    tokens, own, top = (logprobs.get(k) for k in ("tokens", "token_logprobs", "top_logprobs"))
    if not (isinstance(tokens, list) and isinstance(own, list) and len(tokens) == len(own)):
        return None
    tops: list[Any] = top if isinstance(top, list) and len(top) == len(tokens) else [None] * len(tokens)
    return [{"token": token, "logprob": p, "top_logprobs":
             [{"token": t, "logprob": q} for t, q in others.items()] if isinstance(others, dict) else []}
            for token, p, others in zip(tokens, own, tops, strict=True)]  # fmt: skip


def error_in(body: Any) -> tuple[int, str] | None:
    """(code, sentence) of an error that came with the status 200; the code is 0 where it names none."""
    if not isinstance(body, dict) or body.get("choices"):
        return None
    error = body.get("error")
    if not error and body.get("object") != "error" and not ("choices" not in body and body.get("detail")):
        return None
    inner = error if isinstance(error, dict) else body
    said = inner.get("message") or inner.get("detail") or (error if isinstance(error, str) else "")
    code = next((inner[k] for k in ("code", "status") if str(inner.get(k, "")).strip().isdigit()), 0)
    return int(code), str(said or error)[:2000]


def streamed(text: str) -> dict[str, Any] | None:
    """The body of a completion that came in pieces (`data: {...}` lines among others), though none were asked for;
    None for a text that is none."""
    if not text.lstrip().startswith(("data:", "event:", "id:", "retry:", ":")):
        return None
    said, places, last = "", [], {}
    for line in text.splitlines():
        try:
            piece = json.loads(line.removeprefix("data:"))
            choice = piece["choices"][0]
        except (ValueError, RecursionError, KeyError, IndexError, TypeError):
            continue
        part = choice.get("delta") or choice.get("message") or {}
        said += part["content"] if isinstance(part, dict) and isinstance(part.get("content"), str) else ""
        logprobs = choice.get("logprobs")
        places += (
            logprobs["content"] if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list) else []
        )
        last = {"finish_reason": choice.get("finish_reason")} if choice.get("finish_reason") else last
    if not said:
        return None
    return {"choices": [{"message": {"content": said}, "logprobs": {"content": places} if places else None, **last}]}


def _joined(content: Any) -> str | None:
    """The text of a content: itself, of its parts, "" for null; None for anything else."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):  # one part, not in a list
        content = [content]
    if not isinstance(content, list):
        return None
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict) and part.get("type") not in ("thinking", "reasoning"):
            text = part.get("text", part.get("content"))
            texts += [text] if isinstance(text, str) else []
    return "".join(texts) if texts or not content else None


def without_thinking(text: str) -> tuple[str, bool]:
    """The text without what a model thought, wherever it stands, and whether it thought.

    A closing mark without an opening one (the prompt had opened it) ends the thinking before it; an opening one that is
    never closed leaves nothing after it.
    """
    thought = False
    for opening, closing in _MARKS:
        if opening.lower() not in text.lower() and closing.lower() not in text.lower():
            continue
        before = text
        a, b = re.escape(opening), re.escape(closing)
        if opening.lower() in text.lower():
            text = re.sub(rf"{a}(?:(?!{a}).)*?{b}", " ", text, flags=re.DOTALL | re.IGNORECASE)
            text = re.sub(rf"{a}.*\Z", " ", text, flags=re.DOTALL | re.IGNORECASE)
        if closing != "<|end|>":  # ends every message of its family, thinking or not
            text = re.sub(rf"\A.*{b}", " ", text, flags=re.DOTALL | re.IGNORECASE)
        thought = thought or text != before
    return _LEFT_OVER.sub(" ", text) if "<" in text else text, thought


def yes_no(logprobs: Any, text: str | None = None, thought: bool = False) -> tuple[float | None, float | None]:
    """P(yes) / (P(yes) + P(no)) and P(yes) + P(no) at the token that is the answer; None without one.

    logprobs: the list `choices[0].logprobs.content` of the chat API. Variants (" Yes", "YES", '"no') are added up.
    The answer is a yes or no at the beginning, else the last one after "answer": a sentence before it may hold a "no"
    of its own ("there is no effusion. Answer: Yes"). text: the answer without thinking; where `thought` the search
    begins there. A NaN or a positive logprob gives NaN, which is no verdict.
    """
    places = [p for p in logprobs if isinstance(p, dict)] if isinstance(logprobs, list) else []
    places = places[_answer(places, text or "") if thought else 0 :]
    before, at = "", None
    for i, place in enumerate(places):
        token = place["token"] if isinstance(place.get("token"), str) else ""
        if _word(token) is not None and not _ECHOING.search(before):
            if not re.search(r"\w", before):
                at = i
                break
            at = i if _ANNOUNCED.search(before) else at
        before = _LEFT_OVER.sub(" ", before + token.replace("▁", " ").replace("Ġ", " "))
        before = ECHO.sub(" ", before)
    if at is None:
        return None, None
    mass, top = {"yes": 0.0, "no": 0.0}, places[at].get("top_logprobs")
    for entry in top if isinstance(top, list) and top else [places[at]]:
        word = _word(entry.get("token")) if isinstance(entry, dict) else None
        if word is not None:
            value: Any = entry.get("logprob")
            known = isinstance(value, (int, float)) and value <= 1e-3
            mass[word] += math.exp(min(value, 0.0)) if known else math.nan
    total = mass["yes"] + mass["no"]
    return (mass["yes"] / total if total else math.nan), total


ECHO = re.compile(r"[(\[]\s*yes\s*(?:or|/)\s*no\s*[)\]]", re.IGNORECASE)
"""The question's own words in an answer: "Answer (Yes or No): No"."""
_ECHOING = re.compile(r"[(\[]\s*(?:yes\s*(?:or|/)\s*)?\Z", re.IGNORECASE)
_ANNOUNCED = re.compile(r"\banswer\W*(?:is\W*)?\Z", re.IGNORECASE)


def _answer(places: list[dict[str, Any]], text: str) -> int:
    """Index of the first token of the answer `text` at the end of the tokens; behind the last where it is not found."""
    tokens = [p["token"] if isinstance(p.get("token"), str) else "" for p in places]
    wanted = "".join(text.split())
    if not wanted:
        return len(places)
    found = ""
    for i in range(len(tokens) - 1, -1, -1):
        found = "".join(tokens[i].replace("▁", " ").replace("Ġ", " ").split()) + found
        if wanted in found:
            return i
    return len(places)


def _word(token: Any) -> str | None:
    word = token.strip(" \t\n\"'▁Ġ*.{").lower() if isinstance(token, str) else ""
    return word if word in ("yes", "no") else None
