"""The paper's Table 1 for this study: what neurons stand for, and which names hold when they are tested."""

import streamlit as st

from medsae.store import concepts, queries
from medsae.ui import cards, export, filters, format, links, look, naming_panel, terms
from medsae.ui import study as studies

PAGE = {"title": "Concepts", "place": 70}

study, scores, cohort = studies.ready()
look.heading("Concepts", "names by how well a judge who knows only the name tells firing pictures from others")
names = studies.named(study.store, scores)
runs = {r.run: r for r in studies.runs_of_names(study.store, scores)}
if not runs:
    look.empty(
        "No neuron has a name yet",
        "Name one on its page, or many from the command line. Without a model the labels name and judge.",
        f"python -m medsae name --scores {scores.id} --top 50",
    )
    studies.foot(cohort.id)
    st.stop()

first = next(iter(runs))
with st.container(border=True), st.container(horizontal=True, vertical_alignment="bottom"):
    run = runs[links.choose(st.selectbox, "Named and judged by", "run", {k: r.title for k, r in runs.items()}, first)]
    above = float(links.choose(st.selectbox, "Accuracy at least", "above", naming_panel.THRESHOLDS, "0.7", width=130))
    labels = {"": "any label"} | {x: x for x in queries.labels(study.reader, cohort)}
    label = links.choose(st.selectbox, "Following the label", "label", labels, "", width=190)
    text = links.text("Search in names", "q", "effusion", width=150)
    grouped = links.switch("Group alike", "grouped", True, help="Near-identical names stand in one row.")

terms.explain("name", "detection", "verdict", "interval", "correlation, rho")
naming_panel.headlines(study, scores, names, run, above)
top_label = queries.top_labels(study.reader, scores)
frame = concepts.table(names, run.run, top_label, text=text, label=label, threshold=above, grouped=grouped)
if frame.empty:
    look.empty("No name passes these filters", "Lower the accuracy, or clear the search and the label.")
else:
    pages = -(-len(frame) // naming_panel.ROWS)
    page = min(pages, links.whole("page", 1, 1) or 1)
    shown = frame.iloc[(page - 1) * naming_panel.ROWS : page * naming_panel.ROWS]
    cards.show(naming_panel.concepts_table(shown, run, naming_panel.truths(study.store, scores)))
    links.pager(pages)
    lines = concepts.provenance(scores, run)
    with st.container(horizontal=True):
        noted = lambda: filters.with_people(study, frame)  # noqa: E731
        st.download_button(
            "CSV", lambda: concepts.csv(noted(), lines), f"concepts-{run.run}.csv", "text/csv", on_click="ignore"
        )
        st.download_button(
            "Markdown", lambda: concepts.markdown(noted(), lines), f"concepts-{run.run}.md", "text/markdown",
            on_click="ignore",
        )  # fmt: skip
        export.menu(
            {
                "All names of this run": lambda: filters.with_people(
                    study, names[names["run"] == run.run].rename(columns={"note": "reason"})
                )
            },
            f"{scores.id} · run {run.run}",
        )
naming_panel.judge(naming_panel.audits(study.store, scores, run))
st.html(look.chip("Let people take the same test", links.url("read")))
said = [format.sentence(text) for text in (run.overlap, concepts.provenance(scores, run)[3])]
st.caption(look.literal(" ".join(filter(None, said))))
studies.foot(cohort.id)
