"""The work of a score in pieces that do not depend on who makes them, so that several commands can share it.

A piece is a dictionary of arrays without objects. What is a piece (4,096 images, 20 draws, 512 neurons) is fixed by the
question and never by the number of commands; pieces are put together in their order. So the bits are the same whoever
makes them, and whether they are kept or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

Arrays: TypeAlias = "dict[str, NDArray[Any]]"


class Kept(Protocol):
    """Where finished pieces lie, and which of them this command makes."""

    @property
    def shared(self) -> bool:
        """Several commands make the pieces: every piece is kept."""
        ...

    @property
    def keeps(self) -> bool:
        """There is a place for pieces (`put`), also where one command makes all."""
        ...

    def group(self, what: str, number: int, make: Callable[[], Arrays]) -> Arrays | None:
        """Piece `number` of the work `what` as it was kept, else made and kept; None where another makes it."""
        ...

    def expect(self, what: str, groups: int) -> None:
        """There will be so many pieces; raises UserError where some are missing that only others make."""
        ...

    def every(self, what: str, groups: int, make: Callable[[int], Arrays]) -> None:
        """Have all pieces there, because what follows needs them: first this command's own, then those that no other
        has finished. Raises UserError from a command that makes none and lacks some."""
        ...

    def help(self) -> None:
        """Make what `group` gave None for and nobody has finished since: no command waits while another works."""
        ...

    def put(self, what: str, number: int, arrays: Arrays) -> None:
        """Keep a piece that this command will read again."""
        ...

    def read(self, what: str, number: int) -> Arrays:
        """A piece that is there."""
        ...

    def room(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
        """An array to fill, of any content; a large one lies on disk where there is a place, and the system decides
        what of it is in memory. Raises OSError where the disk is full."""
        ...


class Nowhere:
    """Nothing is kept, all is made."""

    shared = keeps = False

    def group(self, what: str, number: int, make: Callable[[], Arrays]) -> Arrays | None:
        return make()

    def expect(self, what: str, groups: int) -> None: ...

    def every(self, what: str, groups: int, make: Callable[[int], Arrays]) -> None: ...

    def help(self) -> None: ...

    def put(self, what: str, number: int, arrays: Arrays) -> None:
        raise AssertionError("nothing is kept")

    def read(self, what: str, number: int) -> Arrays:
        raise AssertionError("nothing is kept")

    def room(self, shape: tuple[int, ...], kind: DTypeLike) -> NDArray[Any]:
        return np.empty(shape, kind)


NOWHERE = Nowhere()


def packed(**tables: pd.DataFrame) -> Arrays:
    """Tables as arrays without objects; a text that is missing is marked."""
    out: Arrays = {}
    for of, frame in tables.items():
        for name in frame:
            column = frame[name].to_numpy()
            if column.dtype.kind in "biuf":
                out[f"{of}.{name}"] = column
                continue
            missing = frame[name].isna().to_numpy(bool)
            words = ["" if no else str(v) for v, no in zip(column, missing, strict=True)]
            out[f"{of}.{name}"] = np.array(words, np.str_)
            out[f"{of}.{name}.missing"] = missing
    return out


def unpacked(arrays: Arrays, of: str) -> pd.DataFrame:
    """One of the tables that `packed` was given; None for a text that is missing."""
    columns: dict[str, NDArray[Any]] = {}
    for key, value in arrays.items():
        table, _, name = key.partition(".")
        if table == of and not name.endswith(".missing"):
            missing = arrays.get(f"{key}.missing")
            if missing is not None:
                value = value.astype(object)
                value[missing] = None
            columns[name] = value
    return pd.DataFrame(columns)
