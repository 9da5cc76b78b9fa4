"""The Concepts table: names of a run by detection accuracy, near-identical ones grouped (the paper's Table 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from medsae.store import spreadsheet
from medsae.store.artifacts import Artifact

FDR = 0.05
THRESHOLD = 0.70
"""The paper's bar for a name."""


@dataclass(frozen=True)
class RunOfNames:
    """One run of the ledger: who was asked, how, and how many names were tested."""

    run: str
    backend: str
    model: str
    protocol: str
    pictures: int
    tested: int
    newest: tuple[float, float]
    """Counter and time of its newest line: what runs are ordered by."""
    overlap: str
    test: str = "detection"
    against: str = "ordinary"

    @property
    def title(self) -> str:
        """How the run is called in choosers; `labels` is always marked as no model."""
        who = "labels only (no model)" if self.backend == "labels" else f"{self.model} ({self.backend})"
        how = self.protocol if self.test == "detection" else f"{self.protocol}, {self.test}"
        how += ", named against hard negatives" if self.against == "hard" else ""
        return f"{who} · {how} · {self.pictures}+{self.pictures} pictures · {self.tested:,} tested"

    @property
    def key(self) -> tuple[str, str, str, int, str, str]:
        """What two runs must share to be compared."""
        return self.backend, self.model, self.protocol, self.pictures, self.test, self.against


@dataclass(frozen=True)
class Headline:
    """`above` of `tested` names reach the threshold; `survive` of those also have q <= 5 % against chance.

    `specific` of `compared` names tell this neuron's pictures better than every control name does, at a false-discovery
    rate of 5 % over the run; `compared` is 0 in ledgers from before that test.
    """

    tested: int
    above: int
    survive: int
    concepts: int
    """Different concepts among `above` (near-identical ones counted once)."""
    unnamed: dict[str, int]
    """status -> neurons that were asked for and have no tested name."""
    specific: int = 0
    compared: int = 0


@dataclass(frozen=True)
class Right:
    """Names of a run whose neuron follows a planted fact (a simulated cohort), compared with that fact."""

    compared: int
    same: int
    """Say the fact that the neuron follows best, with its side or lobe."""
    finding: int
    """Say at least the same finding or device, wherever it is."""


def right(truths: pd.DataFrame, run: str) -> Right:
    """How many names of a run are right (`truths`: `Ledger.truths`); names that cannot be compared are left out."""
    match = truths[(truths["run"] == run) & truths["match"].notna()]["match"]
    return Right(len(match), int((match == "same").sum()), int(match.isin(["same", "finding"]).sum()))


def runs(names: pd.DataFrame) -> list[RunOfNames]:
    """The runs of a ledger (`Ledger.names`), most recently used first."""
    found = []
    for run, part in names.groupby("run", sort=False):
        first = part.iloc[0]
        if pd.isna(first["backend"]):
            continue  # the line that says who was asked is damaged
        found.append(RunOfNames(
            str(run), str(first["backend"]), str(first["model"]), str(first["protocol"]), int(first["pictures"]),
            int(part["accuracy"].notna().sum()), _newest(part),
            *("" if pd.isna(first[k]) else str(first[k]) for k in ("run_overlap",)),
            *(usual if pd.isna(first[k]) else str(first[k]) for k, usual in (("test", "detection"),
                                                                            ("against", "ordinary"))),
        ))  # fmt: skip
    return sorted(found, key=lambda r: r.newest, reverse=True)


def _newest(part: pd.DataFrame) -> tuple[float, float]:
    counter = part["counter"].max()
    return (-1.0 if pd.isna(counter) else float(counter)), float(part["time"].max())


def headline(names: pd.DataFrame, run: str, threshold: float) -> Headline:
    """The counts of one run."""
    part = names[names["run"] == run]
    tested = part[part["accuracy"].notna()]
    above = tested[tested["accuracy"] >= threshold]
    rest = part[part["accuracy"].isna()]["status"].replace({"ok": "without a usable verdict"}).value_counts()
    return Headline(len(tested), len(above), int((above["q"] <= FDR).sum()), above["group_key"].nunique(),
                    {str(k): int(v) for k, v in rest.items()}, int((tested["specific_q"] <= FDR).sum()),
                    int(tested["specific_q"].notna().sum()))  # fmt: skip


def table(
    names: pd.DataFrame, run: str, top_label: pd.Series | None = None, *, text: str = "", label: str = "",
    threshold: float = 0.0, grouped: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Tested names of a run, specific ones first, then by accuracy: neuron, accuracy, low, high, q, specific,
    specific_q, auroc, concept, description, label, shuffled, random, judged, asked, others (further neurons with a
    near-identical concept, best first). `specific` is None where it was not computed.

    top_label: neuron -> the label it follows most. `text` is looked for in concept and description, letter case aside.
    """
    part = names[(names["run"] == run) & names["accuracy"].notna() & (names["accuracy"] >= threshold)].copy()
    part["label"] = part["neuron"].map(top_label) if top_label is not None else None
    if text:
        both = part["concept"].fillna("") + " " + part["description"].fillna("")
        part = part[both.str.contains(text, case=False, regex=False)]
    if label:
        part = part[part["label"] == label]
    part = part.rename(columns={"shuffled_accuracy": "shuffled", "random_accuracy": "random"})
    known = part["specific_q"].notna()
    part["specific"] = (part["specific_q"] <= FDR).astype(object).where(known, None)
    part["first"] = part["specific_q"].fillna(1.0) <= FDR
    part = part.sort_values(["first", "accuracy", "neuron"], ascending=[False, False, True])
    columns = ["neuron", "accuracy", "low", "high", "q", "specific", "specific_q", "auroc", "concept",
               "description", "label", "shuffled",
               "random", "judged", "asked"]  # fmt: skip
    if not grouped:
        return part[columns].assign(others="").reset_index(drop=True)
    key = np.where(part["group_key"].fillna("") == "", part["neuron"].astype(str), part["group_key"])
    part["key"] = key
    alike: dict[str, list[int]] = {}
    for one, neuron in zip(part["key"].tolist(), part["neuron"].tolist(), strict=True):
        alike.setdefault(one, []).append(int(neuron))
    first = part.drop_duplicates("key")
    others = [", ".join(map(str, neurons[1:])) for neurons in alike.values()]  # both in the order of their first
    return first[columns].assign(others=others).reset_index(drop=True)


def counterpart(mine: RunOfNames, theirs: pd.DataFrame) -> RunOfNames | None:
    """The run of another ledger that asked the same model in the same way, newest first; None without one."""
    return next((r for r in runs(theirs) if r.key == mine.key), None)


def same_pictures(first: Artifact, second: Artifact) -> bool:
    """Whether two scores were taken over the same pictures: only then may their names be compared by count."""
    keys = ("images",)
    return first.parents.get("cohort") == second.parents.get("cohort") and all(
        first.config.get(k) == second.config.get(k) for k in keys
    )


def provenance(scores: Artifact, run: RunOfNames) -> list[str]:
    """Lines that say where a table comes from."""
    return [
        "Research use only, not for diagnosis",
        f"scores {scores.id}; names by {run.backend}, model {run.model}, run {run.run}",
        f"protocol {run.protocol}, {run.pictures} firing and {run.pictures} silent pictures a name; {run.overlap}",
        f"{run.tested} neurons tested; q is Benjamini-Hochberg over them; accuracy with its 95 % Wilson interval",
        "q against chance: more agreement than a judge who does not look; q of this name: judged right more often than "
        "every control name on the same pictures (paired exact test)",
    ]


def markdown(frame: pd.DataFrame, lines: list[str]) -> bytes:
    """The table as Markdown, as the paper prints it, with provenance below; star, verdict, tags and note where the
    frame has them."""
    people = [c for c in ("star", "verdict", "tags", "note") if c in frame]
    heads = [
        "Neuron",
        "Accuracy",
        "95 % interval",
        "q against chance",
        "q of this name",
        "Concept",
        "Also neurons",
        *(c.capitalize() for c in people),
    ]
    rows = ["| " + " | ".join(heads) + " |", "|--:|--:|--|--:|--:|--|--|" + "--|" * len(people)]
    for r in frame.to_dict("records"):
        cells = [str(int(r["neuron"])), f"{r['accuracy']:.2f}", f"{r['low']:.2f}-{r['high']:.2f}", _number(r["q"]),
                 _number(r["specific_q"]),
                 _cell(r["concept"]), _cell(r["others"])]  # fmt: skip
        cells += [("★" if r[c] else "") if c == "star" else _cell(r[c]) for c in people]
        rows.append("| " + " | ".join(cells) + " |")
    return ("\n".join(rows) + "\n\n" + "\n".join(f"- {line}" for line in lines) + "\n").encode()


def csv(frame: pd.DataFrame, lines: list[str]) -> bytes:
    """The table as CSV; the first lines are comments with provenance. No cell is a formula: text comes from a model."""
    return ("".join(f"# {line}\n" for line in lines) + spreadsheet.csv(frame)).encode()


def _cell(text: Any) -> str:
    """Untrusted text in a Markdown table: no cell can end early, and no HTML gets through."""
    words = " ".join(str(text or "").split())
    for sign, code in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("[", "\\["), ("`", "'")):
        words = words.replace(sign, code)
    return words


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.1e}" if value < 0.001 else f"{value:.3f}"
