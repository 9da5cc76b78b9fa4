"""What the training of an SAE should have been told, where its pages are: said by rule when it ended."""

from __future__ import annotations

import streamlit as st

from medsae.store.artifacts import Artifact
from medsae.ui import look


def show(sae: Artifact | None) -> None:
    """One warning an advice; nothing for an SAE that trained well, or was trained by an older version."""
    told = sae.facts.get("advice") if sae is not None else None
    for one in told if isinstance(told, list) else []:
        if isinstance(one, dict):
            words = f"This SAE: {one.get('what')}. What to try: {one.get('do')}."
            st.warning(look.literal(words))
