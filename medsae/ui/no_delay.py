"""Sends what the server answers at once, however small it is.

asyncio switches Nagle's algorithm off for sockets that say they are TCP. Streamlit's listening socket does not say so
(its protocol number is 0), and so each answer of two parts waited for the browser to acknowledge the first: 40 ms for a
file of the frontend, of which a page loads some hundred (docs/decisions/198).
"""

from __future__ import annotations

import socket
from asyncio import BaseTransport
from functools import wraps
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def begin() -> None:
    """From now on every connection that this process's server takes is without the delay."""
    made = AutoHTTPProtocol.connection_made

    @wraps(made)
    def connection_made(self: Any, transport: BaseTransport) -> None:
        taken = transport.get_extra_info("socket")
        if taken is not None and taken.family in (socket.AF_INET, socket.AF_INET6):
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made(self, transport)

    AutoHTTPProtocol.connection_made = connection_made
