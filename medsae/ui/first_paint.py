"""The colour of the window before anything of the app has arrived: Streamlit's own first page is white.

On a slow line its script takes seconds, and a reader in a dark room looks into a white window as long. This ASGI
middleware puts the ground of the theme into the head of every HTML page that is sent: of the system's theme, or of the
one that the reader chose in the settings menu, which Streamlit keeps in the browser.
"""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from medsae.ui import early

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_SETTINGS = (
    Path(__file__).parents[2] / ".streamlit/config.toml",
    Path(__file__).parents[1] / "_app/.streamlit/config.toml",
)
_HEAD = b"<head>"
_PAGE = """<head><meta name="color-scheme" content="light dark"><title>MedSAE Explorer</title><style>
html {{ background: {light}; }} html.ms-dark {{ background: {dark}; color-scheme: dark; }}
html.ms-light {{ color-scheme: light; }}
@media (prefers-color-scheme: dark) {{ html:not(.ms-light) {{ background: {dark}; }} }}
</style><script>try {{
  const chosen = JSON.parse(localStorage.getItem("stActiveTheme-" + location.pathname + "-v2") || '""');
  if (chosen === "Dark" || chosen === "Light") document.documentElement.classList.add("ms-" + chosen.toLowerCase());
}} catch (refused) {{ /* no storage, or another program's entry: the system's theme stands */ }}</script>"""


@cache
def head() -> bytes:
    """What stands in the place of `<head>`: both grounds as .streamlit/config.toml has them."""
    settings = next(path for path in _SETTINGS if path.is_file())
    theme = tomllib.loads(settings.read_text())["theme"]
    return _PAGE.format(**{name: theme[name]["backgroundColor"] for name in ("light", "dark")}).encode()


class FirstPaint:
    """ASGI middleware; everything but HTML goes through untouched."""

    def __init__(self, app: Application):
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One connection: a page's head is rewritten on its way out."""
        if scope["type"] != "http" or scope["method"] != "GET" or not _wants_page(scope):
            await self.app(scope, receive, send)
            return
        early.begin()
        # The page is 8 KiB: uncompressed it can be read here.
        headers = [(k, v) for k, v in scope["headers"] if k.lower() != b"accept-encoding"]
        await self.app({**scope, "headers": headers}, receive, _Rewriting(send))


def _wants_page(scope: Message) -> bool:
    return any(k.lower() == b"accept" and b"text/html" in v for k, v in scope["headers"])


class _Rewriting:
    """Holds back the start of an HTML reply until its body is there."""

    def __init__(self, send: Send):
        self.send, self.start, self.body = send, None, b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_html(message):
            self.start = message
        elif self.start is None:
            await self.send(message)
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if not message.get("more_body"):
                await self._finish(self.start)

    async def _finish(self, start: Message) -> None:
        body = self.body.replace(_HEAD, head(), 1)
        kept = [(k, v) for k, v in start["headers"] if k.lower() not in (b"content-length", b"etag", b"last-modified")]
        await self.send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
        await self.send({"type": "http.response.body", "body": body})


def _is_html(message: Message) -> bool:
    kinds = [v for k, v in message["headers"] if k.lower() == b"content-type"]
    return message["status"] == 200 and any(v.startswith(b"text/html") for v in kinds)
