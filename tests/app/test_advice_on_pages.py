"""What a training should have been told stands where its SAE is looked at, as text and nothing else."""

import json

import streamlit as st

from medsae.store.manifest import sealed
from medsae.ui import look


def test_the_advice_of_a_training_is_on_overview_and_on_its_own_page(app, data, ids):
    assert not app.open("overview").warning
    path = data / "artifacts/sae" / ids.sae / "artifact.json"
    manifest = json.loads(path.read_text())
    told = {"problem": "dead", "what": "51% of the <b>neurons</b> fire on no training image", "do": "--expansion 2"}
    manifest["facts"]["advice"] = [told]
    path.unlink()  # the fixture's files are shared by hard links
    del manifest["seal"]
    path.write_text(sealed(manifest))
    st.cache_resource.clear()  # artifacts never change: what was read of one is kept
    for page, query in (("overview", {}), ("runs", {"id": ids.sae})):
        said = [warning.value for warning in app.open(page, **query).warning]
        assert any(look.literal("51% of the <b>neurons</b>") in text and "expansion 2" in text for text in said), said
    assert not app.open("overview", scores=ids.raw).warning


def test_a_record_of_another_kind_is_no_advice(app, data, ids):
    path = data / "artifacts/sae" / ids.sae / "artifact.json"
    manifest = json.loads(path.read_text())
    manifest["facts"]["advice"] = "all is well"
    path.unlink()
    del manifest["seal"]
    path.write_text(sealed(manifest))
    assert not app.open("overview").warning
