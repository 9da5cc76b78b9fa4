"""train --sweep: many SAEs on the same batches, each its own artifact; scored, compared, the best marked twice."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from medsae import config as c
from medsae.progress import Progress
from medsae.steps import found, run, together
from medsae.steps.train import choices, publish, read, resolved
from medsae.store.artifacts import Artifact, Store


def sweep(config: c.Train, store: Store, progress: Progress) -> dict[str, Any]:
    """Train every combination, score each on the evaluation set; returns the manifest of the best by the paper.

    The paper chooses by the lowest mean entropy. That can be won by chance, so beside it stands the best by distance
    below its own permutation null among those whose whole interval lies below the null's; there may be none.
    """
    data = read(config, store, progress)
    options = list(dict.fromkeys(resolved(one, data) for one in config.swept()))
    manifests: dict[int, dict[str, Any]] = {}
    ids = [c.identity(slug, option, [data.embeddings.id], {}) for option, slug in options]
    part = together(store, config, ids, progress)
    if part is not None:
        lacking = [place for place, id in enumerate(ids) if not (store.artifacts / "sae" / id).is_dir()]
        if not part.merges:
            options = [one for place, one in enumerate(options) if part.makes(place)]
        part.mine(lacking)
    with ExitStack() as stack:
        builds = {}
        for place, (option, slug) in enumerate(options):
            build = stack.enter_context(store.build(slug, option, {"embeddings": data.embeddings.id}))
            if build.existing:
                found("SAE", build.id, progress)
                manifests[place] = build.existing.manifest
            else:
                builds[place] = build
        if builds:
            from medsae.sae.sweep import sweep as train_together

            results = train_together(
                data.train_nd, data.holdout_nd, [options[place][0] for place in builds],
                checkpoint_dirs=[build.shards for build in builds.values()], progress=progress, device=config.device,
                choices=choices(store),
            )  # fmt: skip
            for (place, build), result in zip(builds.items(), results, strict=True):
                manifests[place] = publish(build, result, options[place][0], data, progress)
    varied = [part.partition("=")[0] for part in (config.sweep or "").split()]
    rows = [_row(manifests[place], store, progress, config) for place in range(len(options))]
    for row, (option, _) in zip(rows, options, strict=True):
        row["swept"] = {name: getattr(option, name) for name in varied}
    if part is not None and not part.merges:
        progress.say(f"shard {part.index}/{part.of} is done; when all are: {part.merge_command}")
        return {"id": " ".join(row["id"] for row in rows), "published": False, "sweep": rows}
    best = min(rows, key=lambda row: row["mean_entropy"] if row["mean_entropy"] is not None else float("inf"))
    below = [
        row for row in rows if row["high"] is not None and row["null_low"] is not None and row["high"] < row["null_low"]
    ]
    proven = min(below, key=lambda row: row["mean_entropy"] - row["null"], default=None)
    progress.say(_table(rows, best, proven))
    return manifests[rows.index(best)] | {
        "sweep": rows, "best_by_mean_entropy": best["id"], "best_below_the_null": proven and proven["id"],
    }  # fmt: skip


def _row(manifest: dict[str, Any], store: Store, progress: Progress, config: c.Train) -> dict[str, Any]:
    scores = store.get(run(c.Score(sae=manifest["id"], device=config.device), store, progress)["id"], "scores")
    entropy, null = _measure(scores, "mean_entropy"), _measure(scores, "null_mean_entropy")
    facts = manifest["facts"]
    # SAEs of older versions have the share alone, and call it l0.
    active = facts["active_neurons"] if "active_neurons" in facts else facts["l0"] * facts["m"]
    sizes = {"active_neurons": active, "fve": facts["fve"], "dead_share": facts["dead_share"]}
    row = {"id": manifest["id"], "scores": scores.id, **sizes}
    means = {"mean_entropy": entropy[0], "low": entropy[1], "high": entropy[2], "null": null[0], "null_low": null[1]}
    return row | means


def _measure(scores: Artifact, measure: str) -> tuple[float | None, float | None, float | None]:
    with scores.connect() as connection:
        row = connection.execute("SELECT value, low, high FROM summary WHERE measure = ?", [measure]).fetchone()
    return row or (None, None, None)


def _table(rows: list[dict[str, Any]], best: dict[str, Any], proven: dict[str, Any] | None) -> str:
    """The Pareto table as text."""

    def number(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    swept = [" ".join(f"{name} {value:g}" for name, value in row["swept"].items()) for row in rows]
    width = max(5, *map(len, swept))
    lines = [f"{'SAE':44} {'swept':{width}} {'active':>7} {'FVE':>7} {'dead %':>7} {'entropy':>8} {'null':>7}  bits"]
    for row, values in zip(rows, swept, strict=True):
        marks = ["lowest mean entropy (the paper's choice)"] if row is best else []
        marks += ["furthest below its null"] if row is proven else []
        sizes = f"{row['active_neurons']:7.1f} {row['fve']:7.4f} {100 * row['dead_share']:7.1f}"
        entropy = f"{number(row['mean_entropy'], 3):>8} {number(row['null'], 3):>7}"
        lines.append(f"{row['id']:44} {values:{width}} {sizes} {entropy}  {'; '.join(marks)}")
    if proven is None:
        lines.append("no mean entropy lies below its permutation null: shuffled labels give as low ones among these")
    return "\n".join(lines)
