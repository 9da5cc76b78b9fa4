"""What the replies of a run were good for: told at its end, and a reason to stop while nothing works."""

from __future__ import annotations

from collections import Counter
from typing import Literal, TypeAlias

from medsae.naming import diagnosis
from medsae.progress import UserError

Kind: TypeAlias = Literal["explain", "judge"]
"""Of a question: for a name, or for a verdict."""
_MEND = {
    "only thinking": diagnosis.NO_THINKING, "cut off": diagnosis.NO_THINKING,
    "empty": "look at the server's log and its chat template",
    "server error": "look at the server's log", "timeout": "--timeout-seconds raises the wait",
    "refusal": "the model refuses medical pictures: serve another one",
    "unreadable picture": "look whether the cohort's pictures are still where they were",
}  # fmt: skip
"""Status -> what to do when it is all that comes."""
ALIKE = {"explain": 5, "judge": 30}
"""So many names, or verdicts, that all fail alike from the beginning on stop a run."""


class Tally:
    """Counts replies, and verdicts, by what became of them."""

    def __init__(self) -> None:
        self.verdicts: Counter[str] = Counter()
        """status -> verdicts of this command."""
        self.said: Counter[tuple[str, str]] = Counter()
        """(status, what the server or the model said) -> replies that could not be used."""
        self.alike: dict[Kind, list[str]] = {"explain": [], "judge": []}
        self.fine: set[Kind] = set()
        """Tasks of which one reply could be used."""

    def note(self, task: Kind, status: str, said: str) -> None:
        """Count what a reply was good for: the end of the run tells it, and a run in which nothing works stops."""
        if status == "ok":
            self.fine.add(task)
            return
        self.said[status, " ".join(said.split())[:160]] += 1
        if task not in self.fine:
            self.alike[task].append(status)

    def stop_early(self, model: str) -> None:
        """UserError when the first names, or the first verdicts, of `model` all failed alike."""
        for task, statuses in self.alike.items():
            if task not in self.fine and len(statuses) >= ALIKE[task] and len(set(statuses)) == 1:
                what = "names" if task == "explain" else "verdicts"
                (status, said), _ = self.said.most_common(1)[0]
                raise UserError(
                    f"the first {len(statuses)} {what} all failed alike: {status}" + (f" ({said})" if said else ""),
                    model, _MEND.get(statuses[0], "look at what it wrote, and at the server's log")
                    + "; answers so far are kept",
                )  # fmt: skip
