"""How artifacts are called wherever people choose among them: in the app and in notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from medsae.store import housekeeping
from medsae.store.artifacts import Artifact


def is_raw(scores: Artifact) -> bool:
    """Whether these are scores of the raw embedding."""
    return "sae" not in scores.parents


def newest(scored: Sequence[Artifact]) -> Artifact | None:
    """What a reader sees who asked for nothing: the newest scores of an SAE, else of raw embeddings."""
    return next((s for s in scored if not is_raw(s)), scored[0] if scored else None)


def title(artifacts: Sequence[Artifact], scores: Artifact) -> str:
    """How scores are called in choosers: by the name people gave, else `SAE topk 16 × 4`, `raw simclip`."""
    own = housekeeping.of(scores).title
    if own:
        return own
    by_id = {a.id: a for a in artifacts}
    embeddings = by_id.get(scores.parents.get("embeddings", ""))
    encoder = (embeddings.facts.get("encoder") if embeddings else None) or "embedding"
    if is_raw(scores):
        text = f"raw {encoder}"
    else:
        sae = by_id.get(scores.parents["sae"])
        facts = sae.facts if sae else {}
        sizes = (facts.get(name) for name in ("k", "l1", "l0_coefficient"))
        size = next((value for value in sizes if value is not None), None)
        text = f"SAE {facts.get('kind', '')} {'' if size is None else f'{size:g}'} × {facts.get('expansion', '?')}"
        origin = facts.get("origin")
        text += f" from {origin.get('format')}" if isinstance(origin, dict) else ""
        text = f"untrained {text}" if facts.get("untrained") else text
    images, protocol = scores.config.get("images"), scores.config.get("protocol")
    notes = [
        f"{images} images" if images != "evaluation" else "",
        f"{protocol} protocol" if protocol != "strict" else "",
        f"{scores.facts['tokens']} over tokens" if scores.facts.get("tokens") else "",
    ]
    return " · ".join([" ".join(text.split()), *filter(None, notes)])


def titles(artifacts: Sequence[Artifact], scores: Sequence[Artifact]) -> dict[str, str]:
    """id -> title of each; equal titles get their SAE's seed, and still equal ones the end of their id."""
    seeds = {a.id: a.facts.get("seed") for a in artifacts if a.kind == "sae"}
    texts = {s.id: title(artifacts, s) for s in scores}
    seed = {s.id: seeds.get(s.parents.get("sae", "")) for s in scores}
    texts = {i: f"{t} · seed {seed[i]}" if _twice(texts, t) and seed[i] is not None else t for i, t in texts.items()}
    return {i: f"{t} · {i[-4:]}" if _twice(texts, t) else t for i, t in texts.items()}


def _twice(texts: dict[str, str], text: str) -> bool:
    return list(texts.values()).count(text) > 1


def cohort_title(cohort: Artifact) -> str:
    """How a cohort is called: as people named it (`medsae rename`), else its source, of a table or folder of one's own
    the name of that; and its size."""
    n, own = cohort.facts.get("n"), housekeeping.of(cohort).title
    if own:
        return own if n is None else f"{own} · {n:,} images"
    source, config = str(cohort.facts.get("source", cohort.id)), cohort.config
    if source in ("table", "folders"):
        source = PurePath(str(config.get("table") or config.get("root") or "")).name or source
    return f"{source} · {'–' if n is None else f'{n:,}'} images"
