"""In which order the rows of a heat map stand: apart from the figures, whose library a page can do without."""

from __future__ import annotations

from medsae.store.reader import Frame


def row_order(frame: Frame, labels: list[str], order: str) -> list[int]:
    """Rows of a heat map: as they come (`rho`, `entropy`), grouped by strongest label, or alike profiles together."""
    ranked = frame.sort_values("rank").drop_duplicates("neuron")
    if order == "label":
        place = {label: i for i, label in enumerate(labels)}
        keyed = ranked.assign(place=ranked["top_label"].map(place).fillna(len(labels)))
        return [int(n) for n in keyed.sort_values(["place", "rank"])["neuron"]]
    if order == "like" and len(ranked) > 2:
        from scipy.cluster import hierarchy

        grid = frame.pivot(index="neuron", columns="label", values="rho").reindex(ranked["neuron"]).fillna(0.0)
        leaves = hierarchy.leaves_list(
            hierarchy.linkage(grid.to_numpy(), "average", "correlation" if _varied(grid) else "euclidean")
        )
        return [int(grid.index[i]) for i in leaves]
    return [int(n) for n in ranked["neuron"]]


def _varied(grid: Frame) -> bool:
    return bool((grid.std(axis=1) > 1e-9).all())
