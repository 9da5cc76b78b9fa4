"""What if: sets of neurons removed together, and what remains of each label's read-out."""

import streamlit as st

from medsae.store import readouts
from medsae.ui import effect_parts, look, terms
from medsae.ui import study as studies

PAGE = {"title": "What if", "place": 75}

study, scores, cohort = studies.ready()
look.heading("What if neurons were off?", studies.title(study.artifacts, scores))
terms.explain("neuron", "AUROC", "interval", "correlation, rho", "before the cut")
why = readouts.missing(scores)
if why:
    made_before = why.startswith("not")  # scores from before there were read-outs; with another seed they are new ones
    look.empty(
        "No read-outs", f"They were {why}." if made_before else f"There are read-outs {why}.",
        f"python -m medsae score --sae {scores.parents['sae']} --seed 1" if made_before and "sae" in scores.parents
        else None,
    )  # fmt: skip
else:
    chosen = effect_parts.sets(study, scores)
    with st.container(border=True):
        effect_parts.removed(study, scores, cohort, chosen)
studies.foot(cohort.id)
