"""A study as a paper has it: figures for print, tables in LaTeX and Markdown, contact sheets, a methods paragraph with
every setting, and one page of HTML that a colleague opens without the program.

No patient identifier, path or note of a person goes in: images stand under their numbers.
"""

from __future__ import annotations

import base64
import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image, ImageDraw

from medsae import files
from medsae.paper import colours, overlay, plots, printed
from medsae.paper.row_order import row_order
from medsae.progress import UserError
from medsae.store import concepts, maps, planted_pairs, queries, query_images, titles, trained
from medsae.store.artifacts import Artifact, Store
from medsae.store.filter import LEAST, Filter
from medsae.store.ledger import Ledger
from medsae.store.reader import Frame, Reader

RESEARCH = "Research use only, not for diagnosis"
PICTURES, CELL = 12, 160
"""Radiographs of each neuron, and their side in pixels."""
ROWS = 40
"""Neurons of the heat map, and names of Table 1 on the page of HTML."""
CITED = (
    "Wang et al., MedCLIP: Contrastive Learning from Unpaired Medical Images and Text, EMNLP 2022",
    "Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison, AAAI 2019",
    "Bricken et al., Towards Monosemanticity: Decomposing Language Models With Dictionary Learning, 2023",
    "Gao et al., Scaling and evaluating sparse autoencoders, 2024 (top-k)",
    "Benjamini and Hochberg, Controlling the False Discovery Rate, JRSS B 57:289, 1995",
)
_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; color: #1b222c; max-width: 980px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; } .soft { color: #59626e; font-size: .87rem; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
td, th { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #d5dbe3; vertical-align: top; }
figure { margin: 1rem 0; } img { max-width: 100%; } .grid { display: grid; grid-template-columns: repeat(6, 1fr); gap: .4rem; }
.grid img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #000; } .grid figure { margin: 0; font-size: .75rem; }
.grid span { display: grid; } .grid span > * { grid-area: 1 / 1; } .grid img.ms-over { background: none; }"""  # noqa: E501


@dataclass(frozen=True)
class Study:
    """Scores with what they stand on; `versus`: the other representation of the same embeddings, if it was scored."""

    store: Store
    reader: Reader
    artifacts: Sequence[Artifact]
    scores: Artifact
    cohort: Artifact
    versus: Artifact | None
    neurons: tuple[int, ...]

    @property
    def words(self) -> tuple[str, str]:
        """What the two sides are called in figures."""
        sides = [s for s in (self.scores, self.versus) if s is not None]
        short = ["raw" if titles.is_raw(s) else "SAE" for s in sides]
        if len(set(short)) < len(short):
            short = [titles.title(self.artifacts, s) for s in sides]
        return short[0], short[1] if len(short) > 1 else ""

    @property
    def tones(self) -> tuple[str, str]:
        """Their colours."""
        raw = [s is not None and titles.is_raw(s) for s in (self.scores, self.versus)]
        first = colours.RAW if raw[0] else colours.SAE
        return first, colours.SECOND if raw[0] == raw[1] else colours.RAW if raw[1] else colours.SAE

    @cached_property
    def names(self) -> Frame:
        """Every name of the ledger."""
        return Ledger(self.store, self.scores.id).names()

    @cached_property
    def called(self) -> dict[int, str]:
        """neuron -> its newest name."""
        good = self.names[self.names["concept"].notna() & (self.names["status"] == "ok")].sort_values("time")
        return {int(n): str(c) for n, c in zip(good["neuron"], good["concept"], strict=True)}

    @property
    def note(self) -> str:
        """What every file says of itself."""
        return f"{RESEARCH} · {' · '.join(a.id for a in (self.scores, self.versus, self.cohort) if a)}"


def open_study(
    store: Store, scores: str, neurons: Sequence[int] = (), versus: str | None = None, top: int = 12
) -> Study:
    """The study of these scores; without `neurons`, the strongest of each label. UserError for what is missing."""
    mine = store.parent(scores, "scores")
    everything, reader = store.scan()[0], Reader()
    cohort = store.parent(mine.parents.get("cohort", ""), "cohort")
    others = [a for a in everything if a.kind == "scores" and a.id != mine.id]
    fits = [
        a
        for a in others
        if a.parents.get("embeddings") == mine.parents.get("embeddings")
        and titles.is_raw(a) != titles.is_raw(mine)
        and a.config.get("images") == mine.config.get("images")
    ]
    other = store.get(versus, "scores") if versus else next(iter(fits), None)
    if not neurons:
        rows = queries.neurons(reader, mine, Filter(show="selective", sort="-rho"), 400)
        rows = rows[~rows["top_label"].isin(list(queries.scarce_labels(reader, mine, LEAST)))]
        neurons = [int(n) for n in rows.drop_duplicates("top_label")["neuron"].head(top)]
    m = int(queries.count(reader, mine, Filter()))
    wrong = [n for n in neurons if not 0 <= n < m]
    if wrong:
        raise UserError(f"there is no neuron {wrong[0]}", mine.path, f"neurons are numbered 0 .. {m - 1}")
    return Study(store, reader, everything, mine, cohort, other, tuple(dict.fromkeys(neurons)))


def write(study: Study, folder: Path) -> list[str]:
    """Write the report into a new or empty folder; the names of its files. UserError when there is something in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError("the folder of the report is not empty", folder, "give another with --to")
    made = contents(study)
    for name, data in made.items():
        files.make_folder((folder / name).parent)
        files.write(folder / name, data)
    return list(made)


def zipped(study: Study) -> bytes:
    """The same files as one archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents(study).items():
            archive.writestr(name, data)
    return out.getvalue()


def contents(study: Study) -> dict[str, bytes]:
    """Name of each file -> its bytes."""
    figures = _figures(study)
    made: dict[str, bytes] = {}
    for name, figure in figures.items():
        for kind in printed.KINDS:
            made[f"figures/{name}.{kind}"] = printed.draw(figure, 183, kind, study.note)
        made[f"figures/{name}-89mm.pdf"] = printed.draw(figure, 89, "pdf", study.note)
    for name, (frame, caption) in _tables(study).items():
        made[f"tables/{name}.tex"] = latex(frame, caption, name).encode()
        made[f"tables/{name}.md"] = f"{markdown(frame)}\n\n{caption}\n\n{study.note}\n".encode()
    for neuron in study.neurons:
        made[f"neurons/neuron-{neuron}.png"] = contact_sheet(study, neuron)
    made["methods.md"] = methods(study).encode()
    shown = {name: made[f"figures/{name}.png"] for name in figures}
    made["report.html"] = page(study, shown).encode()
    return made


def _figures(study: Study) -> dict[str, Any]:
    s, other, reader = study.scores, study.versus, study.reader
    defined, words, tones = Filter(show="defined", sort="-rho"), study.words, study.tones
    k = max(2, queries.defined_labels(reader, s))
    shown = plots.Histograms(
        queries.entropy_histogram(reader, s, defined),
        queries.entropy_histogram(reader, other, defined) if other else None,
        queries.null_histogram(reader, s),
        words,
        tones,
    )
    axis = plots.BitsAxis(1.0, "bits", math.log2(k), queries.BIN_BITS)
    made = {"entropy": plots.entropies(shown, axis, "share", None)}
    for name, side in (("heat-map", s), ("heat-map-versus", other)):
        if side is None:
            continue
        frame = queries.heat_map(reader, side, defined, ROWS)
        if len(frame):
            labels = [x for x in queries.labels(reader, study.cohort) if x in set(frame["label"][frame["rho"].notna()])]
            order = row_order(frame, labels, "label")
            texts = {n: f"{n} {study.called[n]}"[:34] if side is s and n in study.called else str(n) for n in order}
            made[name] = plots.heat_map(frame, labels, order, max(0.2, float(frame["rho"].abs().max())), texts)
    if other is not None:
        both = queries.best_of_labels(reader, s).merge(
            queries.best_of_labels(reader, other), on="label", suffixes=("", "_other")
        )
        both = both[both["auroc_other_half"].notna() & both["auroc_other_half_other"].notna()]
        both = both[~both["label"].isin(list(queries.scarce_labels(reader, s, LEAST)))]
        if len(both):
            made["best-neurons"] = plots.pairs(both, ("auroc_other_half", "auroc_other_half_other"), words, tones)
    recovered = queries.recovery(reader, s)
    recovered = recovered[~recovered["factor"].str.contains(":")] if len(recovered) else recovered
    if len(recovered):
        made["planted-factors"] = plots.recovery(recovered)
    return made


def _tables(study: Study) -> dict[str, tuple[Frame, str]]:
    """name -> the table as it is printed, and its caption."""
    made = {"measures": (_measures(study), f"Measures of {', '.join(filter(None, study.words))}; 95 % intervals.")}
    made["best-neurons"] = (_best(study), "The best neuron of each label; AUROC on patients who did not choose it.")
    located = _located(study)
    if len(located):
        made["localisation"] = (located, _LOCATED)
    moved = _pairs(study)
    if len(moved):
        made["pairs"] = (moved, _MOVED)
    runs = concepts.runs(study.names)
    if runs:
        made["table-1"] = (
            _concepts(study, runs[0]),
            f"Names by detection accuracy. {runs[0].title}; {runs[0].overlap}.",
        )
    return made


_LOCATED = (
    "Share of pictures whose strongest cell of the best neuron's map lies inside the finding (other patients than chose"
    " the neuron), beside another neuron that fires on the same picture, and the finding's usual place."
)


def _located(study: Study) -> Frame:
    """The table `localisation` of the scored representation as it is printed."""
    rows = maps.localisation(study.reader, study.scores)
    if not len(rows):
        return pd.DataFrame()
    rows = rows[(rows["representation"] == study.scores.facts.get("representation")) & rows["hit"].notna()]
    cells = [
        [r["finding"], str(int(r["neuron"])), f"{int(r['n']):,}", f"{_number(r['hit'])}{_ends(r['low'], r['high'])}",
         _number(r["place"]), _number(r["mean_mask"]), maps.VERDICTS[r["verdict"]]]
        for r in rows.to_dict("records")
    ]  # fmt: skip
    columns = ["finding", "neuron", "images", "inside", "another neuron", "usual place", "by rule"]
    return pd.DataFrame(cells, columns=columns)


_MOVED = (
    "Pairs of simulated pictures that differ in one factor: recovery of the best neuron (specificity times the share of"
    " pairs that follow; chosen on half of the patients, judged on the others), beside what else was measured on the"
    " same pictures; 95 % intervals of the means."
)


def _pairs(study: Study) -> Frame:
    """Recovery by pairs as it is printed, the mean first, then factors by recovery; empty without pairs."""
    pairs = planted_pairs.of(study.artifacts, study.scores)
    if pairs is None:
        return pd.DataFrame()
    which = planted_pairs.representation(study.scores)
    means = planted_pairs.overall(study.reader, pairs, False).set_index("representation")
    sides = [which, *(name for name in planted_pairs.REPRESENTATIONS if name in means.index and name != which)]
    best = planted_pairs.best(study.reader, pairs, False, which).sort_values(
        ["recovery", "position"], ascending=[False, True], na_position="last"
    )
    ends = (f"{_number(means['recovery'][s])}{_ends(means['low'][s], means['high'][s])}" for s in sides)
    rows = [["mean", "", *ends]]
    for r in best.to_dict("records"):
        neuron = "–" if pd.isna(r["neuron"]) else str(int(r["neuron"]))
        rows.append([r["factor"], neuron, *(_number(r[side]) for side in sides)])
    return pd.DataFrame(rows, columns=["factor", "neuron", *(planted_pairs.REPRESENTATIONS[s] for s in sides)])


_TRAINED = {
    trained.OTHERS: "trained on the training patients",
    trained.SCORED: "trained on images of which some are scored here",
    trained.UNKNOWN: "brought from another program, trained on images that are not known here",
    trained.NOTHING: "left untrained, as a control",
}


def _trained(study: Study) -> str:
    """What the SAE has seen, as a part of a sentence."""
    found = trained.trained_on(study.artifacts, study.scores)
    return _TRAINED[found or trained.UNKNOWN]


def _number(value: Any, digits: int = 2) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}".replace("-", "−")


def _ends(low: Any, high: Any) -> str:
    known = not (low is None or high is None or low != low or high != high)
    return f" [{_number(low)}, {_number(high)}]" if known else ""


def _measures(study: Study) -> Frame:
    sides = [s for s in (study.scores, study.versus) if s is not None]
    summaries = [queries.summary(study.reader, s) for s in sides]
    rows = []
    for measure in dict.fromkeys(m for summary in summaries for m in summary):
        cells = [summary.get(measure) for summary in summaries]
        said = [
            f"{_number(m.value, 3)}{_ends(m.low, m.high)}" + (f" (n = {m.n:,})" if m.n else "") if m else "not computed"
            for m in cells
        ]
        rows.append([measure.replace("_", " "), *said])
    return pd.DataFrame(rows, columns=["measure", *[w for w in study.words if w][: len(sides)]])


def _best(study: Study) -> Frame:
    scarce = queries.scarce_labels(study.reader, study.scores, LEAST)
    rows = []
    for row in queries.best_of_labels(study.reader, study.scores).to_dict("records"):
        n = f"{int(row['positives'])} of {int(row['used'])}"
        if row["label"] in scarce or row["best_neuron_rho"] != row["best_neuron_rho"]:
            rows.append([row["label"], n, "–", "too few images", "–", "–"])
            continue
        auroc = f"{_number(row['auroc_other_half'])}{_ends(row['other_half_low'], row['other_half_high'])}"
        half = row["half_neuron"]
        rows.append([row["label"], n, str(int(row["best_neuron_rho"])),
                     f"{_number(row['rho'])}{_ends(row['rho_low'], row['rho_high'])}",
                     "–" if half is None or half != half else str(int(half)), auroc])  # fmt: skip
    return pd.DataFrame(rows, columns=["label", "images with it", "neuron", "ρ", "neuron by AUROC", "AUROC"])


def _concepts(study: Study, run: concepts.RunOfNames) -> Frame:
    frame = concepts.table(study.names, run.run, threshold=concepts.THRESHOLD)
    rows = [
        [
            str(int(r["neuron"])),
            str(r["concept"]),
            f"{100 * r['accuracy']:.1f} %",
            f"{100 * r['low']:.0f} to {100 * r['high']:.0f} %",
            _q(r["q"]),
            _q(r["specific_q"]),
        ]
        for r in frame.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=["neuron", "concept", "accuracy", "95 % interval", "q against chance",
                                       "q of this name"])  # fmt: skip


def _q(value: float | None) -> str:
    """A q-value; a dash where there was no such test."""
    return "–" if value is None or value != value else "< 0.001" if value < 0.001 else f"{value:.3f}"


_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "ρ": r"$\rho$", "−": "$-$", "–": "--", "·": r"$\cdot$",
        "<": "$<$", ">": "$>$", "|": "$|$", "≥": r"$\geq$", "×": r"$\times$"}  # fmt: skip


def tex(text: Any) -> str:
    """Text in LaTeX that shows every character as it is; names come from a model."""
    return "".join(_TEX.get(c, c) for c in " ".join(str(text).split()))


def latex(frame: Frame, caption: str, label: str) -> str:
    """A table with booktabs."""
    heads = " & ".join(tex(c) for c in frame.columns)
    rows = "\n".join(" & ".join(tex(v) for v in row) + r" \\" for row in frame.itertuples(index=False))
    return "\n".join([f"% {RESEARCH}", r"\begin{table}", r"\centering", f"\\caption{{{tex(caption)}}}",
                      f"\\label{{tab:{label}}}", f"\\begin{{tabular}}{{{'l' * len(frame.columns)}}}", r"\toprule",
                      heads + r" \\", r"\midrule", rows, r"\bottomrule",
                      r"\end{tabular}", r"\end{table}", ""])  # fmt: skip


def markdown(frame: Frame) -> str:
    """A table in Markdown; a cell cannot end early."""
    lines = [list(map(str, frame.columns)), ["--"] * len(frame.columns), *frame.astype(str).to_numpy().tolist()]
    safe = [
        [escape(" ".join(c.split()), quote=False).replace("|", "\\|").replace("[", "\\[") for c in row] for row in lines
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in safe)


def _top(study: Study, neuron: int) -> tuple[list[int], list[float], dict[int, bytes]]:
    rows = query_images.images_of(study.reader, study.scores, study.cohort, neuron, "top", True, PICTURES)
    images = [int(i) for i in rows["image"]]
    return images, [float(v) for v in rows["value"]], query_images.thumbnails(study.reader, study.cohort, images)


def _about(study: Study, neuron: int) -> str:
    """One line of what is known of a neuron."""
    row = queries.neuron(study.reader, study.scores, neuron) or {}
    if row.get("entropy") is None:
        return f"neuron {neuron}: {row.get('reason') or 'undefined'}"
    name = f": {study.called[neuron]}" if neuron in study.called else ""
    q = row.get("q")
    return (
        f"neuron {neuron}{name} · entropy {_number(row['entropy'])} bits (null {_number(row['entropy_null_mean'])}) · "
        f"strongest ρ {_number(row['top_rho'])} ({row['top_label']}) · fires on {100 * row['density']:.1f} % · "
        f"q {'–' if q is None else '< 0.001' if q < 0.001 else f'= {q:.3f}'}"
    )


def contact_sheet(study: Study, neuron: int) -> bytes:
    """The strongest radiographs of a neuron, one a patient, as one PNG of 300 dpi."""
    images, values, thumbs = _top(study, neuron)
    rows = max(1, -(-len(images) // 6))
    sheet = Image.new("L", (6 * (CELL + 6) + 6, 34 + rows * (CELL + 22)), 255)
    pen = ImageDraw.Draw(sheet)
    pen.text((6, 8), _about(study, neuron).replace("ρ", "rho").replace("−", "-").replace("·", "|"), fill=0)
    for i, (image, value) in enumerate(zip(images, values, strict=True)):
        x, y = 6 + (i % 6) * (CELL + 6), 34 + (i // 6) * (CELL + 22)
        pen.rectangle((x, y, x + CELL, y + CELL), fill=0)
        if image in thumbs:
            picture = Image.open(io.BytesIO(thumbs[image])).convert("L")
            picture.thumbnail((CELL, CELL))
            sheet.paste(picture, (x + (CELL - picture.width) // 2, y + (CELL - picture.height) // 2))
        pen.text((x, y + CELL + 4), f"{value:.2f}", fill=0)
    out = io.BytesIO()
    sheet.save(out, "PNG", dpi=(printed.DPI, printed.DPI))
    return out.getvalue()


def _settings(config: Mapping[str, Any]) -> str:
    hidden = ("data", "root", "folder", "labels", "table", "pictures")  # paths of this machine may name people
    return ", ".join(f"{k} {v}" for k, v in sorted(config.items()) if v is not None and k not in hidden)


def methods(study: Study) -> str:
    """A paragraph for the methods section with every setting, then citations and versions."""
    counts = query_images.cohort_counts(study.reader, study.cohort)
    by_id = {a.id: a for a in study.artifacts}
    embeddings = by_id.get(study.scores.parents.get("embeddings", ""))
    sae = by_id.get(study.scores.parents.get("sae", ""))
    source = study.cohort.facts.get("source", "unknown source")
    parts = [
        f"The cohort ({source}) holds {counts['images']:,} radiographs of {counts['patients']:,} patients "
        f"({counts['train']:,} for training, {counts['holdout']:,} held out, {counts['evaluation']:,} for evaluation; "
        f"{counts['refused']:,} refused); patients are divided, not images."
    ]
    if embeddings:
        parts.append(f"Embeddings of d = {embeddings.facts.get('d')} came from {embeddings.facts.get('encoder')} "
                     f"({_settings(embeddings.config)}).")  # fmt: skip
    if sae:
        measured = sae.facts.get("history_on") or "held-out images"
        parts.append(f"A sparse autoencoder ({sae.facts.get('kind')}, {sae.facts.get('m'):,} neurons, expansion "
                     f"{sae.facts.get('expansion')}) was {_trained(study)} ({_settings(sae.config)}); it explains "
                     f"{_number(sae.facts.get('fve'), 3)} of the variance of {measured}.")  # fmt: skip
    parts.append(
        "Every neuron's activations were correlated (Pearson) with every label over the images where it is known "
        f"({_settings(study.scores.config)}). Entropy is H = -sum p log2 p with p = |rho| / sum |rho|; its null comes "
        "from shuffling label rows between patients; a neuron is selective where its strongest |rho| beats that null "
        "at a false-discovery rate of 5 % (Benjamini-Hochberg). Intervals are 95 %: Fisher z for rho, bootstrap over "
        "patients for means and differences, Wilson for rates. The best neuron of a label is chosen on half of the "
        "patients and measured on the other half."
    )
    runs = concepts.runs(study.names)
    if runs:
        parts.append(f"Names: {runs[0].title}; {runs[0].overlap}.")
    versions = ", ".join(f"{k} {v}" for k, v in sorted(study.scores.manifest.get("versions", {}).items()))
    citation = study.cohort.facts.get("citation")
    cited = "\n".join(f"- {c}" for c in (*([str(citation)] if citation else []), *CITED))
    commands = "\n".join(f"    {' '.join(map(str, a.manifest.get('command', [])))}" for a in (sae, study.scores) if a)
    return (
        f"# Methods\n\n{' '.join(parts)}\n\n## Citations to choose from\n\n{cited}\n\n## Versions\n\n{versions}\n\n"
        f"## Artifacts\n\n{study.note}\n\n{commands}\n"
    )


def page(study: Study, figures: Mapping[str, bytes]) -> str:
    """The whole report as one page of HTML that needs nothing else; every text is escaped."""
    drawn = "".join(
        f"<h2>{escape(name.replace('-', ' ').capitalize())}</h2><figure>{_inline(png, name)}</figure>"
        for name, png in figures.items()
    )
    tables = "".join(
        f"<h2>{escape(name.replace('-', ' ').capitalize())}</h2><p class=soft>{escape(caption)}</p>{_html(frame)}"
        for name, (frame, caption) in _tables(study).items()
    )
    neurons = "".join(_neuron(study, neuron) for neuron in study.neurons)
    title = titles.title(study.artifacts, study.scores)
    mapped = (
        "" if maps.missing(study.scores) or not study.neurons else f"<h2>Neurons</h2>{overlay.switch(study.scores)}"
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}{overlay.STYLE}</style>"
        f"</head><body><h1>{escape(title)}</h1><p class=soft>{escape(titles.cohort_title(study.cohort))}</p>"
        f"{tables}{drawn}{mapped}{neurons}<h2>Methods</h2><pre style='white-space:pre-wrap;font:inherit'>"
        f"{escape(methods(study))}</pre><p class=soft>{escape(study.note)}</p></body></html>"
    )


def _inline(png: bytes, alt: str, kind: str = "png") -> str:
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{base64.b64encode(png).decode()}">'


def _html(frame: Frame) -> str:
    heads = "".join(f"<th>{escape(str(c))}</th>" for c in frame.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(str(v))}</td>' for v in row)}</tr>"
        for row in frame.head(ROWS).itertuples(index=False)
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _framed(thumb: bytes | None, image: int, layer: overlay.Layer | None) -> str:
    """A radiograph with where the neuron looks."""
    if thumb is None:
        return "no picture"
    over = _inline(layer.webp, "", "webp").replace("<img ", '<img class="ms-over" ') if layer else ""
    return f"<span>{_inline(thumb, f'radiograph {image}', 'webp')}{over}</span>"


def _neuron(study: Study, neuron: int) -> str:
    images, values, thumbs = _top(study, neuron)
    over = overlay.layers(study.reader, study.scores, study.cohort, neuron, images)
    grid = "".join(
        f"<figure>{_framed(thumbs.get(i), i, over.get(i))}{v:.2f}</figure>" for i, v in zip(images, values, strict=True)
    )
    rhos = queries.correlations(study.reader, study.scores, neuron)
    rhos = rhos[rhos["rho"].notna()].head(8)
    ends = [_ends(a, b).strip() for a, b in zip(rhos["low"], rhos["high"], strict=True)]
    table = pd.DataFrame({"label": rhos["label"], "ρ": [_number(r) for r in rhos["rho"]], "95 % interval": ends,
                          "images": [f"{n:,}" for n in rhos["n"]]})  # fmt: skip
    about = _about(study, neuron)
    return f"<h2>Neuron {neuron}</h2><p>{escape(about)}</p><div class=grid>{grid}</div>{_html(table)}"
