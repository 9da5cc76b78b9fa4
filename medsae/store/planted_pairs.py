"""Pairs of pictures that differ in one planted factor, as pages ask for them. No model is needed."""

from __future__ import annotations

from collections.abc import Sequence

from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame, Reader
from medsae.store.titles import is_raw

REPRESENTATIONS = {"sae": "SAE", "untrained": "untrained control", "raw": "raw", "random": "random directions"}
"""Everything that pairs are measured in, and how it is called."""


def of(artifacts: Sequence[Artifact], scores: Artifact) -> Artifact | None:
    """The pairs of the neurons of these scores, those with most patients, then the newest; None without any."""
    role = "embeddings" if is_raw(scores) else "sae"
    mine = [a for a in artifacts if a.kind == "pairs" and a.parents.get(role) == scores.parents.get(role)]
    return max(mine, key=lambda a: (int(a.facts.get("patients") or 0), a.manifest["created"]), default=None)


def representation(scores: Artifact) -> str:
    """Under which name pairs know the neurons of these scores."""
    return "raw" if is_raw(scores) else "sae"


def can_be(cohort: Artifact) -> bool:
    """Whether pairs of a cohort can be drawn."""
    return cohort.facts.get("source") == "simulated"


def overall(reader: Reader, pairs: Artifact, parts: bool) -> Frame:
    """representation, recovery (mean over the factors), low, high, specificity, found, factors."""
    return reader.query("SELECT * EXCLUDE (parts) FROM {p}.overall WHERE parts = ?", [parts], p=pairs)


def best(reader: Reader, pairs: Artifact, parts: bool, which: str) -> Frame:
    """One row a factor in the order of the table of factors: the best neuron of one representation, and beside it the
    recovery of every representation's (columns `sae`, `raw`, `random`, `untrained`; NULL for one that is not there)."""
    others = ", ".join(f"max(recovery) FILTER (representation = '{name}') AS {name}" for name in REPRESENTATIONS)
    return reader.query(
        f"""SELECT f.position, f.severities, b.* EXCLUDE (representation, parts), o.* EXCLUDE (factor)
            FROM {{p}}.factor f JOIN {{p}}.best b USING (factor, parts)
            JOIN (SELECT factor, {others} FROM {{p}}.best WHERE parts = ? GROUP BY factor) o USING (factor)
            WHERE parts = ? AND representation = ? ORDER BY position""",
        [parts, parts, which], p=pairs,
    )  # fmt: skip


def cells(reader: Reader, pairs: Artifact, parts: bool, which: str, neurons: Sequence[int]) -> Frame:
    """factor, neuron, change, low, high, specificity, follows, monotone and `share`: specificity with the sign of the
    change; every factor for some neurons."""
    numbers = ", ".join(str(int(n)) for n in neurons) or "-1"
    return reader.query(
        f"""SELECT factor, neuron, change, low, high, specificity, follows, monotone,
                   sign(change) * specificity AS share
            FROM {{p}}.moved JOIN {{p}}.factor USING (factor, parts)
            WHERE parts = ? AND representation = ? AND neuron IN ({numbers}) ORDER BY position, neuron""",
        [parts, which], p=pairs,
    )  # fmt: skip


def of_neuron(reader: Reader, pairs: Artifact, which: str, neuron: int) -> Frame:
    """What moves one neuron, a row a factor (places together), largest |change| first; empty where nothing does."""
    return reader.query(
        """SELECT factor, change, low, high, specificity, follows, monotone FROM {p}.moved
           WHERE NOT parts AND representation = ? AND neuron = ? ORDER BY abs(change) DESC, factor""",
        [which, neuron], p=pairs,
    )  # fmt: skip


def doses(reader: Reader, pairs: Artifact, parts: bool, which: str) -> Frame:
    """factor, neuron, step, severity, mean of the best neurons' activation, in order."""
    return reader.query(
        """SELECT factor, neuron, step, severity, mean FROM {p}.dose WHERE parts = ? AND representation = ?
           ORDER BY factor, step""",
        [parts, which], p=pairs,
    )  # fmt: skip


def by_factor(reader: Reader, pairs: Artifact, which: str) -> Frame:
    """factor, neuron, recovery of the best neurons, one row a name: findings as a whole, places among places."""
    return reader.query(
        """SELECT factor, neuron, recovery FROM {p}.best
           WHERE representation = ? AND parts = contains(factor, ':')""",
        [which], p=pairs,
    )  # fmt: skip


def examples(reader: Reader, pairs: Artifact, factor: str) -> Frame:
    """image, severity (NULL: without the factor), webp; of a finding with places those of its first place."""
    return reader.query(
        """SELECT image, severity, webp FROM {p}.example WHERE factor = (SELECT factor FROM {p}.factor
             WHERE parts AND (factor = ? OR finding = ?) ORDER BY position LIMIT 1)
           ORDER BY image, severity NULLS FIRST""",
        [factor, factor], p=pairs,
    )  # fmt: skip
