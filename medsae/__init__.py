"""MedSAE Explorer: what each direction of a chest-radiograph encoder encodes, and whether one can believe it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from medsae.api import Data

__version__ = "0.1.0"


def open(data: Path | str | None = None) -> Data:
    """The studies and scores of a data folder, as pandas and numpy (see `medsae.api`).

    `data` None: the variable MEDSAE_DATA, else ./data. Nothing is read before it is asked for; torch is not imported.
    """
    from medsae.api import Data

    return Data(data)
