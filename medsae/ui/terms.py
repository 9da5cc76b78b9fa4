"""The words of a page, explained where they stand; `docs/glossary.md` is the whole list."""

from __future__ import annotations

import streamlit as st

from medsae.ui import look

TERMS = {
    "neuron": "One of the numbers that a model gives every radiograph, looked at alone: what makes it large?",
    "SAE": "Sparse autoencoder: it splits what a model sees into many neurons of which few are active at a time.",
    "raw": "The model's own numbers, without a sparse autoencoder: what an SAE has to be better than.",
    "activation": "How strongly a neuron answers to one radiograph; 0 or more for an SAE.",
    "fires": "Its activation on a radiograph is not 0.",
    "dead": "It fired on no radiograph that the SAE was trained on.",
    "correlation, rho": "ρ, −1 to +1: how closely an activation goes with a label, over n images where it is known.",
    "interval": "[from, to]: where the true number lies, with 95 % confidence.",
    "entropy": "How many labels a neuron is about: 0 bits is one label alone, the largest value is all labels alike.",
    "null": "The same number when the labels are shuffled between patients: what comes from nothing at all.",
    "selective": "Its strongest correlation is larger than shuffled labels give; 5 % of those called so may not be.",
    "q": "How likely such a correlation is under shuffled labels, after allowing for the number of neurons tried.",
    "AUROC": "How well a number tells images with a label from those without: 0.5 is a coin, 1 is never wrong.",
    "specificity": "The share of one planted factor among all that move a neuron: 1 if nothing else moves it.",
    "recovery": "How well the best neuron finds what was planted, on patients that did not choose it.",
    "density": "The share of radiographs on which a neuron fires.",
    "L0": "How many neurons fire on one radiograph, on average.",
    "FVE": "Variance explained: how much of the model's numbers the SAE gives back; 1 is all.",
    "expansion": "How many times more neurons an SAE has than the model has numbers.",
    "before the cut": "What a neuron computed before small values were set to 0.",
    "name": "What a model (or the labels) says a neuron stands for.",
    "detection": "How well a judge who knows only the name tells firing radiographs from others.",
    "verdict": "What that judge said of one radiograph.",
    "protocol": "`paper` does what the published work did, `strict` what can be defended.",
    "co-occurrence": "How often two labels stand together in one image.",
}


def explain(*words: str) -> None:
    """A small menu that explains the words of this page."""
    # It may be longer than the window: a reader without a mouse scrolls what can have the focus.
    with st.popover("What do the words mean?", type="tertiary"):
        rows = "".join(f"<dt>{look.escape(word)}</dt><dd>{look.escape(TERMS[word])}</dd>" for word in words)
        st.html(f'<dl class="ms-terms" tabindex="0">{rows}</dl>')
