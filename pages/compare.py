"""Two representations against each other: entropy, best neurons, matched neurons; and all SAEs of the cohort."""

import streamlit as st

from medsae.ui import compare_parts, export, look, planted_pairs_parts, terms, unfinished
from medsae.ui import study as studies

PAGE = {"title": "Compare", "place": 80}

study, scores, cohort = studies.ready()
title = studies.title(study.artifacts, scores)
known = study.get(st.query_params.get("against")) or study.versus
look.heading("Compare", " against ".join(compare_parts.two_titles(study, scores, known)) if known else title)
other = compare_parts.across(study, scores) or study.versus
if other is None:
    unfinished.alone(study, scores)
else:
    compare_parts.shift(study, scores, other)
    left, right = st.columns(2, gap="medium")
    with left, st.container(border=True):
        compare_parts.best_neurons(study, scores, other)
    with right, st.container(border=True):
        compare_parts.matched(study, scores, other)

compare_parts.located(study, scores, other)
planted_pairs_parts.panel(study, scores, cohort)
terms.explain(
    "SAE", "raw", "entropy", "null", "AUROC", "recovery", "specificity", "L0", "FVE", "selective", "expansion", "dead"
)
frame = compare_parts.all_saes(study, cohort)
with st.container(border=True):
    look.section(
        "All SAEs of this cohort",
        "sparser is left, more faithful is up; a point opens the SAE, the ring is around this one",
    )
    if frame.empty:
        look.empty("No SAE yet", "Train one.", unfinished.next_command(study))
    else:
        compare_parts.pareto(study, frame)
        export.menu({"SAEs of this cohort": lambda: frame}, cohort.id)
studies.foot(cohort.id)
