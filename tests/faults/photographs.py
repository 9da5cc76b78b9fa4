"""Pictures that are none, or damaged, among good ones: each is refused by name or read; the command ends, and no good
picture is lost."""

from __future__ import annotations

import csv
import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from study import Row, command, temporary

REFUSED, READ, EITHER = "refused", "read", "either"


def _grey(side: int = 64, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[0:side, 0:side]
    noise = np.random.default_rng(seed).normal(0, 12, (side, side))
    return np.clip(90 + 60 * np.sin(x / 9 + seed) * np.cos(y / 7) + noise, 0, 255).astype(np.uint8)


def _bytes(kind: str, array: np.ndarray, **more) -> bytes:
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind, **more)
    return out.getvalue()


def _png_of_size(width: int, height: int) -> bytes:
    """A header that claims a size, and no picture."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))


def _kinds() -> dict[str, tuple[str, Callable[[Path, int], None]]]:
    def raw(content: Callable[[int], bytes]) -> Callable[[Path, int], None]:
        return lambda path, seed: path.write_bytes(content(seed)) and None

    jpeg, png = (lambda seed: _bytes("JPEG", _grey(seed=seed))), (lambda seed: _bytes("PNG", _grey(seed=seed)))
    return {
        "empty": (REFUSED, raw(lambda s: b"")),
        "zeros": (REFUSED, raw(lambda s: bytes(5000))),
        "random bytes": (REFUSED, raw(lambda s: np.random.default_rng(s).bytes(5000))),
        "a web page": (REFUSED, raw(lambda s: b"<!DOCTYPE html><html><body>404 Not Found</body></html>")),
        "JSON of an error": (REFUSED, raw(lambda s: b'{"error": "quota exceeded"}')),
        "JPEG cut at the half": (REFUSED, raw(lambda s: jpeg(s)[: len(jpeg(s)) // 2])),
        "JPEG cut by 2 bytes": (EITHER, raw(lambda s: jpeg(s)[:-2])),
        "JPEG with only a header": (REFUSED, raw(lambda s: jpeg(s)[:40])),
        "JPEG with flipped bytes": (EITHER, raw(lambda s: _flipped(jpeg(s), s))),
        "PNG cut at the half": (REFUSED, raw(lambda s: png(s)[: len(png(s)) // 2])),
        "PNG with flipped bytes": (EITHER, raw(lambda s: _flipped(png(s), s))),
        "PNG that claims 60000 x 60000": (REFUSED, raw(lambda s: _png_of_size(60_000, 60_000))),
        "PNG that claims 0 x 0": (REFUSED, raw(lambda s: _png_of_size(0, 0))),
        "one pixel": (REFUSED, raw(lambda s: _bytes("PNG", _grey(1)))),
        "all black": (REFUSED, raw(lambda s: _bytes("PNG", np.zeros((64, 64), np.uint8)))),
        "all white": (REFUSED, raw(lambda s: _bytes("PNG", np.full((64, 64), 255, np.uint8)))),
        "GIF named .png": (READ, raw(lambda s: _bytes("GIF", _grey(seed=s)))),
        "PNG named .jpg": (READ, raw(png)),
        "16-bit PNG": (READ, raw(lambda s: _bytes("PNG", _grey(seed=s).astype(np.uint16) * 257))),
        "colour JPEG": (READ, raw(lambda s: _bytes("JPEG", np.stack([_grey(seed=s)] * 3, -1)))),
        "PNG with transparency": (
            READ,
            raw(lambda s: _bytes("PNG", np.dstack([_grey(seed=s)] * 3 + [np.full((64, 64), 255, np.uint8)]))),
        ),
        "DICOM header alone": (REFUSED, raw(lambda s: bytes(128) + b"DICM" + b"\x02\x00\x00\x00UL\x04\x00")),
        "a zip": (REFUSED, raw(lambda s: b"PK\x03\x04" + bytes(200))),
        "a loop of links": (REFUSED, lambda path, seed: os.symlink(path.name, path)),
    }


def _flipped(data: bytes, seed: int) -> bytes:
    changed, chance = bytearray(data), np.random.default_rng(seed)
    for at in chance.integers(len(data) // 4, len(data), 40):
        changed[at] ^= 1 << int(chance.integers(8))
    return bytes(changed)


def bad(each: int = 4) -> list[Row]:
    """Every kind `each` times, in one cohort with as many good pictures."""
    row, began = Row("bad pictures"), time.monotonic()
    with temporary("pictures") as folder:
        kinds, lines = _kinds(), []
        (folder / "pictures").mkdir()
        for number, (name, (right, make)) in enumerate(kinds.items()):
            for i in range(each):
                suffix = "jpg" if "jpg" in name or "JPEG" in name else "dcm" if "DICOM" in name else "png"
                path = f"pictures/bad-{number:02}-{i}.{suffix}"
                make(folder / path, number * 97 + i)
                lines.append((path, right, name))
        good = [f"pictures/good-{i}.png" for i in range(len(lines))]
        for i, path in enumerate(good):
            (folder / path).write_bytes(_bytes("PNG", _grey(seed=1000 + i)))
        with (folder / "labels.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Path", "Patient", "Effusion"])
            for i, path in enumerate([*good, *(line[0] for line in lines)]):
                writer.writerow([path, f"p{i}", i % 2])
        ended = command(["ingest", "table", "--table", str(folder / "labels.csv"), "--workers", "1"], folder / "data")
        row.tries = row.hits = len(lines)
        if ended.status:
            row.bad(f"status {ended.status}: {ended.err.strip()[-300:]}", lost=True)
            return [row]
        from medsae.store.artifacts import Store

        with Store(folder / "data").get(ended.out.split()[-1]).connect() as connection:
            read = {r[0] for r in connection.execute("SELECT path FROM image").fetchall()}
            refused = dict(connection.execute("SELECT path, reason FROM refused").fetchall())
        for path in good:
            if path not in read:
                row.bad(f"a good picture is gone: {refused.get(path, 'without a word')}", lost=True)
        for path, right, name in lines:
            if path not in read and not refused.get(path):
                row.bad(f"{name}: neither read nor refused", lost=True)
            elif right != EITHER and (path in read) != (right == READ):
                row.bad(f"{name}: {refused.get(path, 'read')}", lost=path in read)
    row.seconds = time.monotonic() - began
    return [row]
