"""The finished pieces of a long step: the one format of every step, so that a restart goes on and trusts nothing torn.

Piece k is a file `0000k.<suffix>` and a note `0000k.json` with its sha256 and what else is to be remembered. Both are
fsynced and put there by a rename, the note last. A piece whose file is missing, cut or has one flipped bit is not
finished: the step makes it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medsae import files, seals


class Shards:
    """The pieces of one step in one folder, which is made where it is missing."""

    def __init__(self, folder: Path, suffix: str):
        """suffix: of the data files, without the dot. The folder belongs to one question: it is in its path."""
        self.folder, self.suffix = files.make_folder(folder), suffix

    def path(self, k: int) -> Path:
        """Where the data of piece k lies or will lie."""
        return self.folder / f"{k:05}.{self.suffix}"

    def finished(self, k: int) -> dict[str, Any] | None:
        """What was remembered of piece k when it was written; None unless the piece is there and whole (one read)."""
        try:
            note = self.remembered(k)
            whole = note["sha256"] == files.sha256_of(self.path(k))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return note if whole else None

    @contextlib.contextmanager
    def writing(self, k: int, **remembered: Any) -> Iterator[Path]:
        """A path to write piece k to; at the end of the block the piece is finished. Raises OSError."""
        self.note(k).unlink(missing_ok=True)  # of a damaged piece
        with files.replacing(self.path(k)) as new:
            yield new
            new.chmod(files.OWN_FILE)
            digest = files.sha256_of(new)
        files.write(self.note(k), seals.text({"sha256": digest, **remembered}))

    def remembered(self, k: int) -> dict[str, Any]:
        """The note of piece k. Raises OSError, and ValueError where it is not what was written."""
        return seals.read(self.note(k))

    def discard(self) -> None:
        """Remove every piece: they answer another question."""
        for path in [*self.folder.glob("[0-9]*.json"), *self.folder.glob(f"[0-9]*.{self.suffix}")]:
            path.unlink(missing_ok=True)

    def note(self, k: int) -> Path:
        """Where the note of piece k lies or will lie."""
        return self.folder / f"{k:05}.json"
