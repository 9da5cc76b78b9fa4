"""The ground of the window is the theme's before a line of the app's script has arrived."""

import asyncio
import gzip
import tomllib
from pathlib import Path

import pytest

from medsae.ui.first_paint import FirstPaint

ROOT = Path(__file__).parents[2]
PAGE = b"<html><head><title>Streamlit</title></head><body>caf\xc3\xa9</body></html>"


def answered(kind: bytes = b"text/html; charset=utf-8", accept: bytes = b"text/html", status: int = 200):
    """(headers, body, what the app was asked with) of one GET through the middleware; the body comes in two parts and
    compressed where the app was told that it may."""
    sent, asked = [], []

    async def app(scope, receive, send):
        asked.extend(scope["headers"])
        body = gzip.compress(PAGE) if dict(scope["headers"]).get(b"accept-encoding") else PAGE
        length = str(len(body)).encode()
        await send({"type": "http.response.start", "status": status,
                    "headers": [(b"content-type", kind), (b"content-length", length), (b"etag", b"x")]})  # fmt: skip
        await send({"type": "http.response.body", "body": body[:20], "more_body": True})
        await send({"type": "http.response.body", "body": body[20:]})

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    scope = {"type": "http", "method": "GET", "headers": [(b"accept", accept), (b"accept-encoding", b"gzip")]}
    asyncio.run(FirstPaint(app)(scope, receive, send))
    return dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:]), dict(asked)


def test_a_page_begins_with_both_grounds_and_says_its_new_length():
    headers, body, asked = answered()
    theme = tomllib.loads((ROOT / ".streamlit/config.toml").read_text())["theme"]
    for name in ("light", "dark"):
        assert f"background: {theme[name]['backgroundColor']}".encode() in body
    assert body.startswith(b"<html><head><meta name=") and body.endswith(PAGE[12:])
    assert int(headers[b"content-length"]) == len(body) and b"etag" not in headers
    assert b"accept-encoding" not in asked, "a compressed page cannot be read here"


@pytest.mark.parametrize(("kind", "accept", "status"), [
    (b"text/javascript", b"*/*", 200), (b"image/png", b"text/html", 200), (b"text/html", b"text/html", 404),
])  # fmt: skip
def test_everything_else_goes_through_untouched(kind, accept, status):
    headers, body, asked = answered(kind, accept, status)
    assert headers[b"etag"] == b"x" and int(headers[b"content-length"]) == len(body)
    assert (gzip.decompress(body) if asked.get(b"accept-encoding") else body) == PAGE


def test_the_first_page_does_not_wait_for_a_look_at_the_sources_of_all_modules(monkeypatch):
    import inspect

    import streamlit.delta_generator as drawn

    import web

    def stack():
        raise AssertionError("Streamlit looked whether it runs in a terminal")

    assert web.app is not None
    monkeypatch.setattr(inspect, "stack", stack)
    drawn._maybe_print_use_warning()
