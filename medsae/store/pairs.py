"""Two neurons of one representation beside each other: do they fire together, on what does only one of them fire?"""

from __future__ import annotations

import math
from dataclasses import dataclass

from medsae.store.artifacts import Artifact
from medsae.store.reader import Frame, Reader


@dataclass(frozen=True)
class Together:
    """How often two neurons of an SAE fire on the `n` scored images, and Pearson's rho of their activations there (None
    where one of them is constant)."""

    n: int
    both: int
    only_first: int
    only_second: int
    rho: float | None


def together(reader: Reader, scores: Artifact, first: int, second: int) -> Together:
    """What two neurons of an SAE have in common. Of raw embeddings only extremes are kept: ask nothing of those."""
    row = reader.query(
        f"""{_BOTH} SELECT count(*) FILTER (a > 0 AND b > 0) AS both, count(*) FILTER (a > 0 AND b = 0) AS only_first,
               count(*) FILTER (a = 0 AND b > 0) AS only_second, sum(a) AS a, sum(b) AS b, sum(a * a) AS aa,
               sum(b * b) AS bb, sum(a * b) AS ab, (SELECT count(*) FROM {{s}}.scored) AS n FROM fired""",
        {"first": first, "second": second}, s=scores,
    ).fillna(0.0).iloc[0]  # fmt: skip
    n = int(row["n"])
    return Together(n, int(row["both"]), int(row["only_first"]), int(row["only_second"]), _rho(n, *(
        float(row[name]) for name in ("a", "b", "aa", "bb", "ab"))))  # fmt: skip


def _rho(n: int, a: float, b: float, aa: float, bb: float, ab: float) -> float | None:
    """Pearson's rho from sums over `n` images; those where neither fires add nothing to them."""
    spread = (n * aa - a * a) * (n * bb - b * b)
    if n == 0 or n * aa - a * a <= 1e-9 * n * aa or n * bb - b * b <= 1e-9 * n * bb:
        return None
    return max(-1.0, min(1.0, (n * ab - a * b) / math.sqrt(spread)))


def images(reader: Reader, scores: Artifact, pair: tuple[int, int], which: str, limit: int = 12) -> Frame:
    """image, value, first, second (activations, 0 where silent). `both`: where both fire, those first where the weaker
    of the two, as a share of its largest, is strongest. `first`, `second`: where only this one fires, strongest first.
    value: the activation of the one that the order looks at."""
    order = {"both": "least(a / max_a, b / max_b)", "first": "a", "second": "b"}[which]
    where = {"both": "a > 0 AND b > 0", "first": "a > 0 AND b = 0", "second": "a = 0 AND b > 0"}[which]
    return reader.query(
        f"""{_BOTH}, most AS (SELECT max(a) AS max_a, max(b) AS max_b FROM fired)
            SELECT image, a AS first, b AS second, {order} AS value FROM fired, most WHERE {where}
            ORDER BY value DESC, image LIMIT {int(limit)}""",
        {"first": pair[0], "second": pair[1]}, s=scores,
    )  # fmt: skip


_BOTH = """WITH fired AS (
    SELECT image, coalesce(max(value) FILTER (neuron = $first), 0)::DOUBLE AS a,
           coalesce(max(value) FILTER (neuron = $second), 0)::DOUBLE AS b
    FROM {s}.activation WHERE neuron IN ($first, $second) AND value > 0 GROUP BY image)"""
