"""simclip; its weights are part of the program."""

from __future__ import annotations

from pathlib import Path

from medsae.encoders.sources import Files, Wanted, given
from medsae.plugins import Encoder, encoders

SHIPPED = Path(__file__).parents[1] / "weights" / "simclip.safetensors"


def files(wanted: Wanted) -> Files:
    """The checkpoint: `--weights`, or the shipped one."""
    return Files.single(wanted, given(wanted.weights or SHIPPED))


encoders.register(
    Encoder(
        name="simclip",
        label="simclip",
        help="A small encoder trained on simulated radiographs; part of the program.",
        load="medsae.encoders.simclip:load",
        files="medsae.encoders.offered.simclip:files",
        text="medsae.encoders.simclip:load",
    )
)
