"""`app` and `look`: the program in a browser, and a picture of your own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro.conf

from medsae.config.base import Command, check, runtime


@dataclass(frozen=True, kw_only=True)
class App(Command):
    """The app in a browser, on this machine only. Settings of Streamlit can be given as its variables STREAMLIT_*."""

    port: int = 8501
    """Port of the web server."""

    def __post_init__(self) -> None:
        check(0 < self.port < 65536, f"--port {self.port} must lie in 1 .. 65535")


@dataclass(frozen=True, kw_only=True)
class Look(Command):
    """A picture of your own: which neurons fire on it, where, and how far it lies from the training images."""

    picture: tyro.conf.Positional[Path | None] = None
    """A JPEG, PNG, TIFF or DICOM file. It is read and not kept."""
    scores: str
    """Id (or unique beginning of the id) of the scores that know the neurons."""
    most: int = 20
    """Neurons that are told at most."""
    occlude: bool = False
    """Where the encoder has no exact map: an approximate one by occlusion, for which the encoder runs 65 times."""
    watch: bool = runtime(False)
    """Keep the models loaded and take pictures from the app."""
    idle_minutes: float = runtime(30.0)
    """watch: stop after so many minutes without a picture."""

    step = "look"

    def __post_init__(self) -> None:
        check((self.picture is None) == self.watch, "which picture?", do="give one file, or --watch")
        check(self.most >= 1, f"--most {self.most} must be at least 1")
        check(self.idle_minutes > 0, "--idle-minutes must be positive")
