"""The finished pieces of a long step: the one format of every step, so that a restart goes on and trusts nothing torn.

Piece k is a file `0000k.<suffix>` and a note `0000k.json` with its sha256 and what else is to be remembered. Both are
fsynced and put there by a rename, the note last. A piece whose file is missing, cut or has one flipped bit is not
finished: the step makes it again. Several commands may share the pieces of one step (`Part`).
"""

from __future__ import annotations

import contextlib
import platform
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsae import files, seals
from medsae.progress import Progress, UserError


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


# --- one step by several commands -------------------------------------------------------------------------------------

MERGE = "merge"
"""What `--shard` is of the command that puts the pieces together."""


def numbers(asked: str) -> tuple[int, int]:
    """`2/3` -> (2, 3); `merge` -> (0, 0). UserError for anything else."""
    index, slash, of = asked.partition("/")
    if asked == MERGE:
        return 0, 0
    if not (slash and all(w.isascii() and w.isdigit() for w in (index, of)) and 1 <= int(index) <= int(of)):
        raise UserError(f"--shard {asked} is not a part of a whole", None, "give i/N with 1 <= i <= N, such as 2/4")
    return int(index), int(of)


@dataclass(frozen=True)
class Part:
    """One of N commands that make the pieces of a step in a folder that all of them see, or the one that merges.

    Command i makes the pieces k with k mod N = i - 1. Each leaves a note of itself (its words, host, versions), so that
    what does not belong together is named before anything is computed. Nothing here looks at a clock: machines whose
    clocks are apart work together.
    """

    index: int
    """1 .. of; 0 of the merging command."""
    of: int
    folder: Path
    words: tuple[str, ...]
    """The command without its part."""

    @property
    def merges(self) -> bool:
        return self.index == 0

    def makes(self, k: int) -> bool:
        """Whether this command is about piece k; the merging one is about all."""
        return self.merges or k % self.of == self.index - 1

    def mine(self, missing: list[int], pieces: Shards | None = None) -> list[int]:
        """Which of the missing pieces are made now. UserError from the merging command, which makes none and names the
        commands that do; `pieces`: tells damaged ones from those that are not there."""
        if not self.merges:
            return [k for k in missing if self.makes(k)]
        if missing:
            raise self.lacking(missing, [k for k in missing if pieces and pieces.path(k).exists()])
        return []

    def lacking(self, missing: list[int], damaged: list[int]) -> UserError:
        """What is missing, by the commands that make it."""
        notes = _notes(self.folder)
        of = max((note["of"] for note in notes), default=1)
        owners = sorted({k % of + 1 for k in missing})
        begun = {note["index"] for note in notes if note["of"] == of}
        what = f"{len(missing):,} pieces are not finished: of shard " + ", ".join(f"{i}/{of}" for i in owners[:8])
        what += f" ({len(damaged):,} damaged)" if damaged else ""
        absent = [i for i in owners if i not in begun]
        if absent:
            what += (f"; shard {', '.join(f'{i}/{of}' for i in absent[:8])} has left nothing here: if it ran on "
                     "another machine, this folder is not shared with it")  # fmt: skip
        return UserError(what + _others(self.folder), self.folder, "; ".join(self.command(i, of) for i in owners[:8]))

    @property
    def merge_command(self) -> str:
        """The command that puts all parts together."""
        place = self.words.index("medsae") + 1 if "medsae" in self.words else 0
        return shlex.join([*self.words[:place], MERGE, *self.words[place:]])

    def command(self, index: int, of: int) -> str:
        """The words of shard `index` of `of`."""
        return shlex.join([*self.words, "--shard", f"{index}/{of}"])


def join(
    folder: Path, asked: str | None, words: Sequence[str], about: dict[str, Any], progress: Progress
) -> Part | None:
    """The part that `--shard` asks for, noted in `folder`; None where nothing is asked.

    about: `versions`, `config` and `inputs` of the artifact that is built. UserError where the shards of `folder` were
    made by other versions, and from a merge where no shard has begun.
    """
    if asked is None:
        return None
    index, of = numbers(asked)
    plain = [word for i, word in enumerate(words) if word != "--shard" and words[i - 1] != "--shard"]
    part = Part(index, of, folder, tuple(word for word in plain if word != MERGE))
    notes = _notes(folder)
    if part.merges and not notes:
        raise UserError(f"no shard of this command has begun here{_others(folder, about['config'])}", folder,
                        f"{part.command(1, 2)} and so on, with this --data")  # fmt: skip
    for note in notes:
        _same_versions(note, about["versions"], folder)
    if part.merges:
        return part
    changed = sorted({note["of"] for note in notes} - {of})
    if changed:
        before = ", ".join(map(str, changed))
        progress.say(f"shards of {before} were begun here, this is {index} of {of}: what is finished is kept, and "
                     "`merge` names what is not")  # fmt: skip
    note = {"index": index, "of": of, "words": list(part.words), "host": platform.node(), **about}
    files.write(files.make_folder(folder / _PARTS) / f"{index}-of-{of}.json", seals.text(note))
    return part


_PARTS = "parts"
_SHOWN = ("streamlit",)
"""Packages that have no part in a result."""
_ABOUT = ("scores", "embeddings")
"""Fields of a config that say what it is about."""


def _notes(folder: Path) -> list[dict[str, Any]]:
    """What the shards in a folder say of themselves; torn notes are left out."""
    found = []
    for path in sorted((folder / _PARTS).glob("*-of-*.json")):
        with contextlib.suppress(OSError, ValueError):
            note = seals.read(path)
            if isinstance(note, dict) and isinstance(note.get("of"), int) and isinstance(note.get("index"), int):
                found.append(note)
    return found


def _same_versions(note: dict[str, Any], versions: dict[str, str], folder: Path) -> None:
    theirs = note.get("versions") or {}
    names = sorted(name for name in {*theirs, *versions} - {*_SHOWN} if theirs.get(name) != versions.get(name))
    if names:
        other = "; ".join(
            f"{name} {theirs.get(name, 'none')} there, {versions.get(name, 'none')} here" for name in names
        )
        raise UserError(f"shard {note['index']}/{note['of']} was made on {note.get('host')} by other versions: {other}",
                        folder, "install the same versions on every machine (requirements.txt); or throw away what is "
                        "finished (`medsae gc --yes`) and start every shard anew")  # fmt: skip


def _others(folder: Path, config: dict[str, Any] | None = None) -> str:
    """Shards of other commands beside these, which somebody may take for these; empty without any.

    config: of this command, where none of its shards has left a note. A step without a folder of its own has its notes
    beside those of earlier commands: only what is about the same `scores` or `embeddings` may be taken for it."""
    mine = next(iter(_notes(folder)), {}).get("config", config) or {}
    said = []
    for other in sorted([*folder.parent.parent.glob(".building-*/.shards"), *folder.parent.glob("*-*")]):
        for note in _notes(other) if other != folder else []:
            theirs = note.get("config") or {}
            about = [name for name in _ABOUT if name in mine]
            if other.parent == folder.parent and any(theirs.get(name) != mine[name] for name in ["step", *about]):
                continue
            part = Part(note["index"], note["of"], other, tuple(note.get("words") or ()))
            why = "of other weights or files" if mine == theirs else "of another command"
            said.append(f"shard {part.index}/{part.of} {why} is there: {part.command(part.index, part.of)}")
    return f"; {'; '.join(said[:4])}" if said else ""
