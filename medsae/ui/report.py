"""A neuron as one page of HTML that needs nothing else: pictures inside, numbers with intervals, notes, provenance."""

from __future__ import annotations

from html import escape
from typing import Any

from medsae.paper import overlay
from medsae.store import queries, query_images
from medsae.store.artifacts import Artifact
from medsae.store.pictures import data_uri
from medsae.ui import bars, cards, format, look
from medsae.ui import study as studies
from medsae.ui.study import Study

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1b222c; max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.05rem; margin: 1.4rem 0 .4rem; } .soft { color: #59626e; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; } td, th { text-align: left; padding: .15rem .6rem .15rem 0; }
.n { text-align: right; } .grid { display: grid; grid-template-columns: repeat(6, 1fr); gap: .4rem; }
figure { margin: 0; } figure span { display: grid; place-items: center; background: #000; aspect-ratio: 1; color: #aaa; }
img { width: 100%; height: 100%; object-fit: contain; min-height: 0; } figcaption { font-size: .75rem; }
.bar { position: relative; height: .8rem; background: #eef1f5; } .bar i { position: absolute; top: 0; bottom: 0; }
.ms-sae-fill { background: #3d93d4; } .ms-raw-fill { background: #d08129; }
.bar u { position: absolute; top: 45%; height: 2px; background: #59626e; } figure span > * { grid-area: 1 / 1; } footer { margin-top: 2rem; border-top: 1px solid #d5dbe3; padding-top: .5rem; }
"""  # noqa: E501


def html(study: Study, scores: Artifact, cohort: Artifact, row: dict[str, Any]) -> bytes:
    """The report of one neuron (a row of `neuron`); every text is escaped."""
    number = int(row["neuron"])
    name, note = study.shown_names.get(number), study.notes.get(number)
    images = query_images.images_of(study.reader, scores, cohort, number, "top", True, 18)
    thumbs = query_images.thumbnails(study.reader, cohort, [int(i) for i in images["image"]])
    captions = query_images.captions(
        study.reader, cohort, [int(i) for i in images["image"]], studies.labels(study, cohort)
    )
    words = {int(c["image"]): c for c in captions.to_dict("records")}
    made = overlay.layers(study.reader, scores, cohort, number, [int(i) for i in images["image"]])
    over = {i: data_uri(layer.webp) for i, layer in made.items()}
    figures = "".join(
        f"<figure><span>{cards.img(thumbs.get(int(i)), cards.alt_text(int(i), words.get(int(i))))}"
        f"{cards.layer(over, int(i))}</span>"
        f"<figcaption>{format.number(v)} · {escape(str(words.get(int(i), {}).get('labels', '')))}</figcaption></figure>"
        for i, v in zip(images["image"], images["value"], strict=True)
    )
    tone = study.tone(scores)
    rhos = "".join(
        f"<tr><td>{escape(str(r['label']))}</td>"
        f"<td style='width:40%'><div class=bar>{bars.correlation(r, tone)}</div></td>"
        f"<td class=n>{format.signed(r['rho'])}</td><td class='n soft'>{format.interval(r['low'], r['high'])}</td>"
        f"<td class='n soft'>n = {format.count(r['n'])}</td></tr>"
        for r in queries.correlations(study.reader, scores, number).to_dict("records")
        if not format.missing(r["rho"])
    )
    rates = "".join(
        f"<tr><td>{escape(str(r['what']))}: {escape(str(r['group']))}</td><td class=n>{format.percent(r['rate'])}</td>"
        f"<td class='n soft'>{format.percent(r['low'])} to {format.percent(r['high'])}</td></tr>"
        for r in query_images.confounders(study.reader, scores, number, studies.groups(study, scores, cohort)).to_dict(
            "records"
        )
    )
    said = ""
    if note:
        verdict = f"{note.verdict} with the name {note.name!r}" if note.verdict else ""
        parts = ["★ starred" if note.star else "", verdict,
                 ", ".join(note.tags), note.text]  # fmt: skip
        said = f"<h2>Note</h2><p>{escape(' · '.join(p for p in parts if p))}</p>"
    body = (
        f"<h1>Neuron {number}{': ' + escape(name) if name else ''}</h1>"
        f"<p class=soft>{escape(studies.title(study.artifacts, scores))} · {escape(studies.cohort_title(cohort))} · "
        f"{escape(str(scores.config.get('protocol')))} protocol, {escape(str(scores.config.get('images')))} images</p>"
        f"<p>{_headline(study, row)}</p>{said}"
        f"<h2>Radiographs that fire it most, one a patient</h2>{overlay.switch(scores) if over else ''}"
        f"<div class=grid>{figures or 'none'}</div>"
        f"<h2>Correlation with labels</h2><table>{rhos or '<tr><td>none is defined</td></tr>'}</table>"
        f"<h2>Firing rate by view, sex, age, devices</h2><table>{rates or '<tr><td>nothing is known</td></tr>'}</table>"
        f"<footer class=soft>{look.RESEARCH} · {escape(scores.id)} · {escape(cohort.id)}</footer>"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Neuron {number}</title>'
        f"<style>{_STYLE}{overlay.STYLE}</style></head><body>{body}</body></html>"
    ).encode()


def _headline(study: Study, row: dict[str, Any]) -> str:
    if row["entropy"] is None:
        return f"Entropy undefined: {escape(str(row['reason'] or 'no reason given'))}"
    luck = f"{format.number(row['entropy_null_mean'])} ± {format.number(row['entropy_null_sd'])}"
    return (
        f"Entropy <b>{format.number(row['entropy'])} bits</b> (null {luck}) · strongest ρ "
        f"<b>{format.signed(row['top_rho'])}</b> ({escape(str(row['top_label']))}) · fires on "
        f"{format.percent(row['density'])} of images · {'selective' if row['selective'] else 'not selective'}"
    )
