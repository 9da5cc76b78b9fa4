"""What a server's refusal means, from its own words, and what to do about it."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

NO_THINKING = (
    "To switch it off: vLLM --default-chat-template-kwargs '{\"enable_thinking\": false}'; "
    "llama.cpp --reasoning-budget 0; Ollama think=false; else serve a model that does not think"
)
CONTEXT = (
    "A larger one: vLLM --max-model-len N; llama.cpp -c N; Ollama OLLAMA_CONTEXT_LENGTH=N; LM Studio: in the model's "
    "settings"
)

_FEW_PICTURES = re.compile(
    r"at most (\d+) (?:image|picture|multi-?modal)"
    r"|(?:only|max(?:imum)?(?: of)?|up to|limit(?: is|ed to)?:?) (\d+) images?"
    r"|(?:only )?(one|single|1) image (?:is |input )?(?:supported|allowed|per)|too many images|number of images"
    r"|(?:multiple|several) images (?:are|is) not|limit[-_]mm[-_]per[-_]prompt",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r"context (?:length|size|window)|maximum (?:model|sequence|input|prompt) length|max_model_len|n_ctx"
    r"|prompt (?:is )?too long|too many tokens|exceeds? .{0,40}(?:context|token)|exceed_context_size"
    r"|longer than the max",
    re.IGNORECASE,
)
_NO_VISION = re.compile(
    r"(?:not|n't) (?:a multi-?modal|support (?:image|vision|multi-?modal)|accept image)"
    r"|(?:image|vision|multi-?modal)[^.]{0,40}not (?:been )?(?:supported|enabled|available|allowed)"
    r"|mmproj|text-only|does not (?:see|take) (?:image|picture)",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"model\b.{0,200}?\b(?:does not exist|not found|is not (?:loaded|served|available)|unknown)|no such model"
    r"|unknown model|model_not_found",
    re.IGNORECASE | re.DOTALL,
)
_STREAM = re.compile(
    r"(?:only|must|requires?|set)\b.{0,60}\bstream|\bstream(?:ing)?\b.{0,60}(?:only|must|require|true)", re.I
)
_NO_DATA_URL = re.compile(
    r"only .{0,20}https?\b.{0,60}(?:url|support|allow)|data:? ?ur[il]s? .{0,40}not|not .{0,40}data:? ?ur[il]"
    r"|base64.{0,40}not",
    re.I,
)
_LOGPROBS = re.compile(
    r"log_?probs?.{0,120}?(?:max(?:imum)?(?: allowed| value)?(?: is| of)?:? ?|less than or equal to |at most |<= ?"
    r"|up to |between 0 and |in (?:the )?range (?:of )?\[?0, ?|not (?:be )?(?:greater|larger|more) than )(\d+)",
    re.IGNORECASE | re.DOTALL,
)
_REFUSES = re.compile(
    r"unsupported|not supported|unknown|unrecogni[sz]ed|unexpected|not permitted|forbidden|invalid|not allowed|extra"
    r"|does not support|isn't supported|not available|not enabled|refus",
    re.IGNORECASE,
)


def of(said: str, pictures: int, picture_tokens: int) -> tuple[str, str] | None:
    """(what is wrong, what to do) when a server's refusal of a question with `pictures` pictures says so, else None.

    picture_tokens: tokens of one picture, 0 when unknown.
    """
    few = _FEW_PICTURES.search(said)
    if few is not None and pictures > 1:
        allowed = few[1] or few[2] or ("1" if few[3] else None)
        least = f"the server takes at most {allowed} picture{'' if allowed == '1' else 's'} a prompt" if allowed else (
            "the server takes fewer pictures a prompt")  # fmt: skip
        do = (f"vLLM: start it with --limit-mm-per-prompt '{{\"image\": {pictures}}}'; else serve a model that takes "
              f"{pictures} pictures in one prompt")  # fmt: skip
        return f"{least}, a naming question shows {pictures}", do
    if _CONTEXT.search(said):
        shown = "1 picture" if pictures == 1 else f"{pictures} pictures"
        need = f" (about {pictures * picture_tokens + 600:,} tokens)" if picture_tokens else ""
        return f"the server's context is too small for a question with {shown}{need}", CONTEXT
    if _NO_DATA_URL.search(said):
        return ("the server wants pictures as addresses, and radiographs are sent as data within the question only",
                "use a server that takes data URLs (vLLM, llama.cpp, LM Studio, Ollama)")  # fmt: skip
    if _NO_VISION.search(said):
        return "the model does not take pictures", "serve a model with vision (llama.cpp: also its --mmproj file)"
    return None


def of_code(code: int, model: str) -> tuple[str, str] | None:
    """(what is wrong, what to do) where the status of a refusal alone tells it, else None."""
    if 300 <= code < 400:
        return "the server sends requests to another address", "give that address: a redirection is not followed"
    if code == 413:
        return ("the server, or a proxy before it, refuses requests of this size",
                "raise its limit (nginx: client_max_body_size 64m)")  # fmt: skip
    if code == 402:
        return f"the account that serves {model!r} is not paid", "look at the account"
    return None


def wants_stream(said: str) -> bool:
    """Whether a refusal says that answers come in pieces only."""
    return _STREAM.search(said) is not None


def no_such_model(said: str) -> bool:
    """Whether a refusal says that the model is not there."""
    return _NO_MODEL.search(said) is not None


def logprobs_cap(said: str) -> int | None:
    """The largest `top_logprobs` that a refusal allows; None when it does not speak of one."""
    found = _LOGPROBS.search(said)
    return int(found[1]) if found else None


def refused_field(said: str, fields: list[str]) -> str | None:
    """The field of a request that a refusal names as unwanted; None when it names none that can be left out."""
    if not _REFUSES.search(said):
        return None
    lower = said.lower()
    for field in ("top_logprobs", "logprobs", "response_format", "chat_template_kwargs", "seed", "temperature",
                  "max_tokens", "stream"):  # fmt: skip
        if field in fields and re.search(rf"\b{field}\b", lower):
            return field
    if "response_format" in fields and re.search(r"json_?schema|guided|grammar|structured output", lower):
        return "response_format"
    return None


def other_addresses(address: str) -> list[str]:
    """Addresses that may have been meant: with /v1, without what follows it, by the other scheme."""
    parts = urlsplit(address)
    path = parts.path.rstrip("/")
    paths = []
    for end in ("/chat/completions", "/completions", "/models", "/chat"):
        if path.endswith(end):
            paths.append(path.removesuffix(end))
    if "/v1" in path:
        paths.append(path[: path.index("/v1")] + "/v1")
    else:
        paths += [path + "/v1", "/v1", path + "/openai/v1", path + "/api/v1"]
    found = [urlunsplit((parts.scheme, parts.netloc, p, "", "")) for p in dict.fromkeys(paths)]
    other = "https" if parts.scheme == "http" else "http"
    found.append(urlunsplit((other, parts.netloc, path if "/v1" in path else path + "/v1", "", "")))
    return [a for a in found if a.rstrip("/") != address.rstrip("/")]
