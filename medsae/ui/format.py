"""Numbers as text: units, signs, intervals. NULL is an en dash, never 0."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from medsae.store.queries import Measure

Unit: TypeAlias = Literal["bits", "nats", "normalised"]
UNITS: tuple[Unit, ...] = ("bits", "nats", "normalised")
UNIT_NAMES = {"bits": "bits", "nats": "nats", "normalised": "H / log₂ k"}
NOTHING = "–"

__all__ = ["NOTHING", "UNITS", "UNIT_NAMES", "Unit", "escape", "factor", "interval", "number", "percent", "signed"]


def fact(name: str) -> str:
    """A planted fact in words: `Consolidation:RUL` as "Consolidation, RUL"."""
    return name.replace(":", ", ")


def factor(unit: Unit, k: int) -> float:
    """What bits are multiplied by to give the unit; k is the number of labels."""
    return {"bits": 1.0, "nats": math.log(2), "normalised": 1 / math.log2(max(k, 2))}[unit]


def missing(value: object) -> bool:
    """None, NaN or pandas' NA."""
    return value is None or bool(value != value) or str(value) == "<NA>"


def number(value: float | None, digits: int = 2) -> str:
    """A number with a fixed count of decimals and a true minus sign, which what rounds to 0 does not have."""
    return NOTHING if missing(value) else f"{value:z,.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 2) -> str:
    """A number with its sign; what rounds to 0 has none."""
    if missing(value) or value is None:
        return NOTHING
    text = f"{value:+,.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def percent(value: float | None, digits: int = 1) -> str:
    """A share as per cent: 0 % and 100 % mean none and all. What would be rounded to one of them keeps a digit that
    says something (0.02 %), or stands beside it (> 99.9 %)."""
    if missing(value) or value is None:
        return NOTHING
    share = 100 * float(value)
    text = f"{share:z.{digits}f}"
    if float(text) == 0:
        return "0 %" if share <= 0 else f"{share:.1g} %" if share >= 0.001 else "< 0.001 %"
    if float(text) == 100:
        return "100 %" if share >= 100 else f"> {100 - 10**-digits:.{digits}f} %"
    return f"{text} %"


def interval(low: float | None, high: float | None, digits: int = 2, scale: float = 1.0) -> str:
    """[low, high], or nothing when either is missing."""
    if missing(low) or missing(high) or low is None or high is None:
        return ""
    return f"[{number(low * scale, digits)}, {number(high * scale, digits)}]"


def scaled(measure: Measure | None, scale: float, digits: int = 2) -> str:
    """The value of a measure in another unit."""
    return NOTHING if measure is None or measure.value is None else number(measure.value * scale, digits)


def count(value: float | None) -> str:
    """A whole number with thousands."""
    return NOTHING if missing(value) else f"{int(value or 0):,}"


def plural(n: int, word: str) -> str:
    """`1 neuron`, `2 neurons`."""
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"


def sentence(text: str) -> str:
    """Text with a capital at its beginning and a full stop at its end; nothing stays nothing."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def shortened(text: str, most: int) -> str:
    """At most `most` characters, the last of them … where something was left out."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def duration(seconds: float | None) -> str:
    """Seconds as a person says them."""
    if missing(seconds) or seconds is None:
        return NOTHING
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size(bytes: float) -> str:
    """Bytes as a person says them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(bytes) < 1024:
            return f"{bytes:,.0f} {unit}" if unit in ("B", "KiB") else f"{bytes:,.1f} {unit}"
        bytes /= 1024
    return f"{bytes:,.1f} TiB"
