"""A chat server that takes a set time for every reply and nothing else; it counts what is in flight.

    python tests/bench/instant_server.py SECONDS      prints its port; GET /v1/stats tells the count

In a process of its own and without a look at the pictures, so that its work is not counted as the client's.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any


def completion(text: str, logprobs: Any = None) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": logprobs}
    return json.dumps({"choices": [choice], "usage": {"prompt_tokens": 300, "completion_tokens": 3}}).encode()


_TOP = [{"token": "Yes", "logprob": -0.2}, {"token": "No", "logprob": -1.8}]
JUDGED = completion("Yes", {"content": [{"token": "Yes", "logprob": -0.2, "top_logprobs": _TOP}]})


class Count:
    """Requests in flight over time: seconds_of[k] is how long exactly k were."""

    def __init__(self) -> None:
        self.flying = self.requests = 0
        self.first = self.last = None
        self.seconds_of: dict[int, float] = {}

    def step(self, change: int) -> None:
        now = time.perf_counter()
        if self.last is not None:
            self.seconds_of[self.flying] = self.seconds_of.get(self.flying, 0.0) + now - self.last
        self.first, self.last = self.first or now, now
        self.flying += change
        self.requests += change > 0


class Chat(asyncio.Protocol):
    def __init__(self, seconds: float, count: Count):
        self.seconds, self.count, self.buffer = seconds, count, bytearray()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = bytes(self.buffer[:end]).lower()
        at = head.find(b"content-length:")
        size = end + (int(head[at + 15 :].split(b"\r\n")[0]) if at >= 0 else 0)
        if len(self.buffer) < size:
            return
        body = bytes(self.buffer[end:size])
        del self.buffer[:size]
        self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        tail = body[-4000:]
        if b"/stats" in head:
            self.send(json.dumps(self.count.__dict__).encode())
        elif head.startswith(b"get"):
            self.send(b'{"data": [{"id": "instant"}]}')
        elif b"Is this square" in tail:
            self.send(JUDGED if b"image_url" in body else JUDGED.replace(b"300", b"40"))
        else:
            self.count.step(1)
            said = {"concept": f"Concept number {self.count.requests}", "description": "A description."}
            reply = completion(json.dumps(said)) if b'\\"concept\\"' in tail else JUDGED
            asyncio.get_running_loop().call_later(self.seconds, self.late, reply)

    def late(self, reply: bytes) -> None:
        self.count.step(-1)
        self.send(reply)

    def send(self, body: bytes) -> None:
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def main(seconds: float) -> None:
    count = Count()
    server = await asyncio.get_running_loop().create_server(lambda: Chat(seconds, count), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
