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
    look.empty(
        "No read-outs", f"They were {why}." if why.startswith("not") else f"There are read-outs {why}.",
        f"python -m medsae score --sae {scores.parents['sae']} --seed 1" if scores.parents.get("sae") else None,
    )  # fmt: skip
else:
    chosen = effect_parts.sets(study, scores)
    with st.container(border=True):
        effect_parts.removed(study, scores, cohort, chosen)
studies.foot(cohort.id)
