"""The panels of the page Read: choose a reading, read it, and what it came to."""

from __future__ import annotations

import io
from html import escape
from typing import Any

import pandas as pd
import streamlit as st
from PIL import Image

from medsae.progress import UserError
from medsae.reading import plan, results
from medsae.reading.agreement import Number
from medsae.reading.plan import Reading, Standing
from medsae.store import pictures
from medsae.store.artifacts import Artifact
from medsae.store.readings import Answers, Readings, clean
from medsae.store.spreadsheet import csv as safe_csv
from medsae.ui import cards, format, full_picture, links, look, reader
from medsae.ui.study import Study

KINDS = {"own": "the model's names", "rival": "the model's and other neurons' names", "none": "names of their own",
         "readers": "names of readers and the model's"}  # fmt: skip
QUESTION = "Does this image show it?"
AHEAD = 5
"""Images that lie in the browser before they are asked for."""
_NAMING_SIDE = 512
_MOST_RECEIVED = 2_000


def choices(study: Study, readings: Readings) -> dict[str, Reading]:
    """Every reading that can be opened; what is wrong with the others is said."""
    found = {}
    for id in readings.ids():
        try:
            found[id] = plan.parse(readings.plan(id))
        except (UserError, KeyError, TypeError, ValueError) as error:
            look.problem(error if isinstance(error, UserError) else UserError(f"the reading {id} is damaged: {error}"))
    return found


def none(study: Study) -> None:
    """There is no reading yet."""
    scores = study.scores.id if study.scores else "ID"
    look.empty(
        "No reading yet",
        "A reading is the detection test done by people: they see a neuron's name and images one by one, and say "
        "whether the image shows it. Plan one in a terminal:",
        f"python -m medsae reading create --scores {scores} --top 10 --images 20+20",
    )


def title(reading: Reading) -> str:
    """What a chooser calls it."""
    neurons = len({task.neuron for task in reading.tasks})
    return f"{reading.title or reading.id} · {format.plural(neurons, 'neuron')}, {KINDS[reading.names]}"


def what_is_gone(study: Study, reading: Reading) -> Artifact | None:
    """The cohort, for its images; says what is gone, and what that means for the reading."""
    cohort = study.get(reading.cohort)
    if cohort is None:
        look.problem(UserError(f"the cohort {reading.cohort} of this reading is not here: its images cannot be shown",
                               None, "every answer is kept, and the results are below"))  # fmt: skip
    elif study.get(reading.scores) is None:
        scores = look.literal(reading.scores)
        st.caption(f"The scores {scores} are not here any more. The reading holds its own names and images, so it goes "
                   "on, and nothing is lost.")  # fmt: skip
    return cohort


# --- reading


def desk(study: Study, readings: Readings, reading: Reading, who: str, cohort: Artifact) -> None:
    """What this reader does next."""
    if reading.readers and who not in reading.readers:
        look.empty("Not on the list of this reading", f"{who} is not among its readers. Ask who planned it.")
        return
    answers = readings.answers(reading.id, who)
    now = plan.following(reading, who, plan.standing(answers.rows()), AHEAD)
    if now.name is not None:
        _to_name(study, reading, now.name, cohort, answers)
    else:
        st.fragment(_read)(study, reading, cohort, answers)


def _read(study: Study, reading: Reading, cohort: Artifact, answers: Answers) -> None:
    """The desk, in a part of the page that runs alone: an answer draws nothing else again."""
    key = f"desk-{reading.id}-{answers.path.stem}"
    sent: set[str] = st.session_state.setdefault(f"_{key}", set())
    got = reader.received(key)[:_MOST_RECEIVED]
    if any(row.get("kind") == "need" for row in got):
        sent.clear()
    kept, trouble = _keep(reading, answers, got)
    stands = plan.standing(answers.rows())
    now = plan.following(reading, answers.reader, stands, AHEAD)
    if now.name is not None:
        st.rerun()
    items = [_item(study, reading, cohort, stands, item, sent) for item in now.items]
    reader.draw(key, {"place": f"{reading.id}/{answers.path.stem}", "question": QUESTION, "items": items, "kept": kept,
                      "done": now.done, "total": now.total, "trouble": trouble})  # fmt: skip


def _keep(reading: Reading, answers: Answers, got: list[dict[str, Any]]) -> tuple[list[str], str]:
    """Keys of what is on the disk now, and what went wrong."""
    mine = set(plan.items_of(reading, answers.reader))
    rows = []
    for row in got:
        line = plan.line(row)
        if line is not None and line.kind in ("answer", "back") and (line.task, line.image) in mine and line.key:
            seconds = min(max(line.seconds, 0.0), 86_400.0) if line.seconds == line.seconds else 0.0
            rows.append({"kind": line.kind, "task": line.task, "image": line.image, "said": line.said,
                         "seconds": seconds, "key": line.key[:64]})  # fmt: skip
    if not rows:
        return [], ""
    try:
        return answers.add(rows), ""
    except UserError as error:
        return [], f"{error.what}: {error.do}"


def _item(
    study: Study, reading: Reading, cohort: Artifact, stands: Standing, item: plan.Item, sent: set[str]
) -> dict[str, Any]:
    task = reading.tasks[item[0]]
    name = f"{item[0]}:{item[1]}"
    src = None
    if name not in sent:
        picture, _ = full_picture.full_size(study.reader, cohort, item[1])
        src = pictures.data_uri(picture) if picture else "data:,"
        sent.add(name)
    concept = task.concept or stands.names.get(item[0], "")
    return {"task": item[0], "image": item[1], "name": concept, "about": task.description, "src": src}


def _to_name(study: Study, reading: Reading, task: int, cohort: Artifact, answers: Answers) -> None:
    """A reader names a neuron: what do these images share?"""
    look.section("What do these images share?", "a few words; then you are asked about other images")
    images = reading.tasks[task].naming
    cells = "".join(
        f'<span class="ms-pic"><span class="ms-box">{_plain(study, cohort, image, k, len(images))}</span></span>'
        for k, image in enumerate(images, 1)
    )
    cards.show(f'<div class="ms-grid" style="--cell:230px">{cells}</div>')
    with st.form(f"name-{reading.id}-{task}", border=False):
        text = st.text_input("Name", max_chars=plan.LONGEST_NAME, placeholder="such as: left pleural effusion")
        sent = st.form_submit_button("Keep this name and go on", type="primary")
    words = " ".join("".join(ch for ch in text if ch.isprintable()).split())
    if sent and words:
        try:
            answers.add([{"kind": "name", "task": task, "said": words}])
        except UserError as error:
            look.problem(error)
            return
        st.rerun()


def _plain(study: Study, cohort: Artifact, image: int, k: int, of: int) -> str:
    """A picture without a word of what is known of it."""
    picture, _ = full_picture.full_size(study.reader, cohort, image)
    if picture is None:
        return "no picture"
    with Image.open(io.BytesIO(picture)) as opened:
        small = opened.convert("L")
    small.thumbnail((_NAMING_SIDE, _NAMING_SIDE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=85)
    return cards.img(out.getvalue(), f"image {k} of {of}")


# --- results


def progress(readings: Readings, reading: Reading, stands: dict[str, Standing]) -> None:
    """How far every reader has come, and what is wrong with what they left."""
    rows = []
    for name, standing in stands.items():
        total = len(plan.items_of(reading, name))
        late = f"{standing.repeated} given twice, the first counts" if standing.repeated else ""
        torn = readings.answers(reading.id, name).damaged()
        lost = f"{format.plural(torn, 'line')} damaged and left out: take the file from a copy" if torn else ""
        told = "; ".join(filter(None, [late, lost]))
        rows.append([escape(name), f"{len(standing.answers)} of {total}", told])
    if rows:
        cards.show(look.table([("reader", False), ("answered", True), ("", False)], rows))


def unfinished(reading: Reading, stands: dict[str, Standing], who: str) -> bool:
    """Whether this reader still has to stay blind."""
    mine = plan.items_of(reading, who) if who else []
    return bool(mine) and len(stands.get(who, Standing({}, {})).answers) < len(mine)


def outcome(study: Study, reading: Reading, stands: dict[str, Standing], cohort: Artifact | None) -> None:
    """Accuracies, agreement, times, disagreements, files."""
    look.section("Accuracy", "balanced; what could not be told is left out")
    rows = [
        [escape(one.reader), escape(KINDS_OF[one.about]), f"{one.done} of {one.total}", str(one.unsure),
         _number(one.accuracy), _number(one.model), _number(one.difference, signed=True), str(one.difference.n),
         "" if one.seconds is None else f"{one.seconds:.1f} s"]
        for one in results.readers(reading, stands)
    ]  # fmt: skip
    judge = f"model{f' ({reading.judge})' if reading.judge else ''}, same images"
    columns = [("reader", False), ("names", False), ("answered", True), ("cannot tell", True), ("accuracy", True),
               (judge, True), ("difference", True), ("on images", True), ("an image", True)]  # fmt: skip
    cards.show(look.table(columns, rows))
    agreed = results.agree(reading, stands)
    if agreed is None:
        st.caption(
            "Readers gave the names themselves: each answered another question, so there is no agreement to tell."
        )
    else:
        look.section("Agreement", "yes and no; intervals over patients")
        alpha = [["all readers: Krippendorff's α", _number(agreed.alpha), f"{agreed.alpha.n:,}"]]
        kappas = [[f"{escape(a)} and {escape(b)}: Cohen's κ", _number(k), f"{k.n:,}"]
                  for (a, b), k in agreed.kappas.items()]  # fmt: skip
        cards.show(look.table([("who", False), ("agreement", True), ("images", True)], alpha + kappas))
    _disagreements(study, reading, stands, cohort)
    _names(reading, stands)
    _files(study, reading, stands)


KINDS_OF = {"own": "own name", "rival": "another's name", "none": "their own", "readers": "a reader's name"}


def _number(found: Number, signed: bool = False) -> str:
    if found.value is None:
        return format.NOTHING
    value = format.signed(found.value) if signed else format.number(found.value)
    return f"<b>{value}</b> {format.interval(found.low, found.high)}"


def _disagreements(study: Study, reading: Reading, stands: dict[str, Standing], cohort: Artifact | None) -> None:
    if reading.names == "none":
        return
    found = results.disagreements(reading, stands)
    look.section("To look at together", f"{format.plural(len(found), 'image')} on which readers differ")
    if found.empty or cohort is None:
        return
    pages = -(-len(found) // cards.A_PAGE)
    page = min(pages, links.whole("page", 1, 1) or 1)
    for name, rows in found.iloc[(page - 1) * cards.A_PAGE : page * cards.A_PAGE].groupby("name", sort=False):
        st.html(f"<b>{escape(str(name))}</b>")
        words = {
            int(r["image"]): f"yes: {r['yes']}; no: {r['no']}; the neuron {'fires' if r['fires'] else 'is silent'}"
            for r in rows.to_dict("records")
        }
        cards.show(cards.grid(study, cohort, rows[["image"]], lambda i: links.url("image", image=i), words=words))
        st.html("<br>".join(f'<span class="ms-soft">image {i}: {escape(w)}</span>' for i, w in words.items()))
    links.pager(pages)


def _names(reading: Reading, stands: dict[str, Standing]) -> None:
    rows = [
        [escape(who), str(reading.tasks[task].neuron), escape(text)]
        for who, standing in stands.items()
        for task, text in sorted(standing.names.items())
        if task < len(reading.tasks)
    ]
    if rows:
        look.section("Names that readers gave")
        cards.show(look.table([("reader", False), ("neuron", True), ("name", False)], rows))


def _files(study: Study, reading: Reading, stands: dict[str, Standing]) -> None:
    look.section("For a paper")
    text = results.methods(reading, stands)
    st.code(text, language=None, wrap_lines=True)
    for note in reading.notes:
        st.caption(format.escape(note))
    st.download_button(
        "Every answer (CSV)", lambda: f"# {look.RESEARCH} · {reading.id}\n{safe_csv(_shown(reading, stands))}",
        f"{reading.id}.csv", "text/csv", on_click="ignore",
    )  # fmt: skip


def _shown(reading: Reading, stands: dict[str, Standing]) -> pd.DataFrame:
    """Every answer; patients are numbers within the reading, which mean nothing elsewhere."""
    return results.answers(reading, stands)


def who(readings: Readings, signed_in: str) -> str:
    """The reader's name: of the login, else the one that the address holds."""
    if signed_in:
        return clean(signed_in)
    text = links.text("Your name", "reader", "as the results will call you", width=260)
    return clean(text) if text.strip() else ""
