"""Small answers of the server do not wait for the browser's acknowledgement."""

import asyncio
import socket

import pytest
import uvicorn
from streamlit.web.server.starlette import starlette_server
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from medsae.ui import no_delay


class Taken(asyncio.Protocol):
    """A server's protocol that notes whether its connection waits."""

    waits: bool | None = None

    def connection_made(self, transport):
        sock = transport.get_extra_info("socket")
        Taken.waits = sock.family != socket.AF_UNIX and not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def connect(listening: socket.socket) -> None:
    server = await asyncio.get_running_loop().create_server(Taken, sock=listening)
    _, writer = await asyncio.open_connection(*listening.getsockname())
    while Taken.waits is None:
        await asyncio.sleep(0.01)
    writer.close()
    server.close()


@pytest.mark.parametrize("begun", [False, True])
def test_a_connection_of_a_socket_made_as_streamlit_makes_it_waits_no_more(monkeypatch, begun):
    monkeypatch.setattr(Taken, "waits", None)
    monkeypatch.setattr(Taken, "connection_made", Taken.connection_made)
    monkeypatch.setattr(no_delay, "AutoHTTPProtocol", Taken)
    if begun:
        no_delay.begin()
    asyncio.run(connect(starlette_server._bind_socket("127.0.0.1", 0, 4)))
    assert Taken.waits is not begun


def test_it_is_the_protocol_that_streamlits_server_takes():
    config = uvicorn.Config(lambda: None, **starlette_server._get_uvicorn_config_kwargs())
    config.load()
    assert config.http_protocol_class is AutoHTTPProtocol


def test_the_servers_program_begins_it():
    import web

    assert web.app is not None and hasattr(AutoHTTPProtocol.connection_made, "__wrapped__")
