"""`import` and `export`: SAEs of other programs, scores for notebooks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro.conf

from medsae import plugins
from medsae.config.base import Command, runtime

RESEARCH_ONLY = "Research use only, not for diagnosis."


@dataclass(frozen=True, kw_only=True)
class ImportSae(Command):
    """An SAE of another program, on embeddings of this one: an artifact that is scored, named and explored like any."""

    what: tyro.conf.Positional[Literal["sae"]] = runtime("sae")
    """What is imported."""
    format: str
    """Of which program: saelens, dictionary_learning, saev, overcomplete, sparsify, gemma_scope, or a plug-in's."""
    from_: Annotated[Path, tyro.conf.arg(name="from")] = field(metadata={"runtime": True})
    """Folder (or file) of the SAE; its sha256 is part of the identity."""
    embeddings: str
    """Id (or unique beginning of the id) of the embeddings that it takes."""
    subtract_bias: bool | None = None
    """Whether the decoder's bias is taken from an embedding before encoding (default: as the format says)."""

    step = "import"
    makes = "sae"
    source = "sae"

    def __post_init__(self) -> None:
        plugins.formats.get(self.format)


@dataclass(frozen=True, kw_only=True)
class ExportSae(Command):
    """An SAE as a folder of another program, with a card, ready for the Hub."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id of the SAE."""
    format: str
    """For which program: saelens, dictionary_learning, saev, overcomplete, sparsify, or a plug-in's."""
    to: Path
    """Folder to make."""

    step = "export"
    source = "sae"

    def __post_init__(self) -> None:
        plugins.formats.get(self.format)


@dataclass(frozen=True, kw_only=True)
class ExportScores(Command):
    """Neurons, correlations, activations, pictures and names of scores as files for notebooks."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id of the scores."""
    format: Literal["parquet"] = "parquet"
    """Parquet: one file a table."""
    to: Path
    """Folder to make."""

    step = "export"
    source = "scores"
