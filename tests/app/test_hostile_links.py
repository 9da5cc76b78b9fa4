"""Whatever an address holds, the page answers; a data folder that cannot be written opens every page."""

import os
from pathlib import Path

import pytest

from medsae.store import pictures
from medsae.store.artifacts import Store


@pytest.mark.parametrize(("page", "query"), [
    ("neurons", {"q": "99999999999999999999"}), ("image", {"image": "9" * 4400}), ("neuron", {"neuron": "9" * 30}),
    ("neurons", {"page": "1" * 19, "lo": "1e400", "hi": "nan"}), ("image", {"image": "4294967296"}),
    ("neurons", {"label": "x\0y", "q": "a" * 100_000}), ("runs", {"job": "../../x", "id": "\u202e", "tab": "jobs"}),
    ("overview", {"scores": "' OR 1=1 --", "versus": "{scores}"}),
])  # fmt: skip
def test_hostile_values_are_answered(app, html, data, ids, page, query):
    test = app.open(page, **query)  # `open` fails on an exception
    assert "Research use only" in html(test)


def test_what_no_link_of_ours_holds_is_named_and_left_out(app, data, ids):
    test = app.open("neurons", q="a" * 1000, label="b\nc")
    said = " ".join(warning.value for warning in test.warning)
    assert "'q' cannot be used (1,000 characters)" in said and "'label' cannot be used" in said
    assert not app.test.query_params.get("q")


def test_salt_is_kept_in_memory_where_the_folder_cannot_be_written(tmp_path, monkeypatch):
    store = Store(tmp_path)
    monkeypatch.setattr("medsae.files.make_folder", lambda path: (_ for _ in ()).throw(PermissionError(13, "no")))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert pictures.salt(store) == pictures.salt(store) and not pictures.keeps_salt(store)
    assert not list(tmp_path.iterdir())
