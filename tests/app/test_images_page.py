"""The search of images: each condition against plain pandas, all of it in the address, hostile links."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from medsae.store import find_images
from medsae.store.artifacts import Store
from medsae.store.find_images import Search, find
from medsae.store.reader import Reader
from medsae.ui import view_image
from medsae.ui.study import Study


@pytest.fixture
def study(data, ids):
    store = Store()
    return Reader(), store.get(ids.scores), store.get(ids.cohort)


def table(artifact, name):
    with artifact.connect() as connection:
        return connection.execute(f"FROM {name}").df()


def asked(study, search):
    """Every image that passes, and the total that is told for a page of five."""
    reader, scores, cohort = study
    every = find(reader, scores, cohort, search, 10_000).rows
    page = find(reader, scores, cohort, search, 5, 5)
    assert list(page.rows["image"]) == list(every["image"][5:10]) and page.total == len(every)
    return every


def wanted(study, search):
    """The same in pandas."""
    _, scores, cohort = study
    image, label = table(cohort, "image"), table(cohort, "label")
    keep = pd.Series(True, index=image["image"])
    frame = image.set_index("image")
    for name, state in search.labels:
        mine = label[label["label"] == name].set_index("image")["value"].reindex(image["image"])
        value = find_images.STATES[state]
        keep &= mine.isna() if value is None else mine == value
    for column in ("view", "sex", "split"):
        value = getattr(search, column)
        if value == "evaluation set":
            keep &= frame["evaluation"]
        elif value is not None:
            keep &= frame[column] == value
    if search.age_low is not None:
        keep &= frame["age"] >= search.age_low
    if search.age_high is not None:
        keep &= frame["age"] <= search.age_high
    if search.scored:
        keep &= frame.index.isin(table(scores, "scored")["image"])
    if search.neurons is not None:
        fired = table(scores, "activation").query("value > 0")
        keep &= frame.index.isin(fired[fired["neuron"].isin(search.neurons)]["image"])
    return set(keep[keep.fillna(False)].index)


LABEL = "Pleural Effusion"


@pytest.mark.parametrize("search", [
    Search(),
    Search(labels=((LABEL, "present"),)),
    Search(labels=((LABEL, "absent"), ("Edema", "present"))),
    Search(labels=((LABEL, "uncertain"),)),
    Search(labels=((LABEL, "unstated"),)),
    Search(view="AP", sex="F"),
    Search(age_low=40.0, age_high=60.0, split="train"),
    Search(split="evaluation set", scored=True),
    Search(neurons=(3, 5, 8)),
    Search(neurons=(3,), labels=((LABEL, "present"),), sex="M"),
    Search(neurons=()),
], ids=lambda search: "-".join(f.name for f in dataclasses.fields(search) if getattr(search, f.name) != f.default) or "all")  # fmt: skip
def test_each_condition_finds_what_pandas_finds(study, search):
    found = asked(study, search)
    assert set(found["image"]) == wanted(study, search) and found["image"].is_unique


@pytest.mark.parametrize("order", list(find_images.ORDERS))
def test_orders(study, order):
    rows = asked(study, Search(order=order, neurons=(3, 5, 8)))
    ages = table(study[2], "image").set_index("image")["age"].loc[rows["image"]].dropna().to_numpy()
    if order == "strongest":
        assert (np.diff(rows["strength"]) <= 0).all() and 0 < rows["strength"].min() <= rows["strength"].max() == 1
    elif order in ("youngest", "oldest"):
        assert (np.diff(ages) * (1 if order == "youngest" else -1) >= 0).all()
    elif order == "number":
        assert rows["image"].is_monotonic_increasing
    else:
        assert not rows["image"].is_monotonic_increasing


def test_the_neuron_named_is_the_one_that_reaches_the_largest_share_of_its_maximum(study):
    rows = asked(study, Search(neurons=(3, 5), order="strongest")).set_index("image")
    fired = table(study[1], "activation").query("neuron in (3, 5) and value > 0")
    top = table(study[1], "neuron").set_index("neuron")["max"]
    fired = fired.assign(share=fired["value"] / top.loc[fired["neuron"]].to_numpy())
    best = fired.sort_values("share", ascending=False).drop_duplicates("image").set_index("image")
    assert (rows["neuron"].astype(int) == best["neuron"].loc[rows.index]).all()


def test_kept_columns_of_every_kind(study):
    reader, scores, cohort = study
    path = cohort.path / "tables.duckdb"
    assert find_images.attribute(reader, cohort, "nothing of the kind") == find_images.Attribute(
        "nothing of the kind", "category"
    )
    import duckdb

    copy = path.read_bytes()
    reader.close()
    path.unlink()
    path.write_bytes(copy)  # the fixture's files are shared by hard links
    with duckdb.connect(str(path)) as db:
        db.execute("DELETE FROM attribute")
        db.execute("INSERT INTO attribute SELECT image, 'kvp', (60 + image)::TEXT FROM image")
        db.execute(
            "INSERT INTO attribute SELECT image, 'site', CASE WHEN image % 3 = 0 THEN 'B' ELSE 'A' END FROM image"
        )
        db.execute("INSERT INTO attribute SELECT image, 'report', 'No EFFUSION ' || image FROM image")
        db.execute(
            "INSERT INTO attribute_name VALUES (0, 'site', 'category'), (1, 'kvp', 'number'), (2, 'report', 'text')"
        )
    reader = Reader()
    cohort = dataclasses.replace(cohort)
    assert find_images.attributes(reader, cohort) == ["site", "kvp", "report"]
    kvp, site, report = (find_images.attribute(reader, cohort, name) for name in ("kvp", "site", "report"))
    assert (kvp.kind, kvp.low, kvp.high) == ("number", 60, 219)
    assert (site.kind, site.values) == ("category", ("A", "B")) and report.kind == "text"

    def found(**search):
        return set(find(reader, scores, cohort, Search(**search), 10_000).rows["image"])

    number = dict(attribute="kvp", attribute_kind="number")
    assert found(**number, attribute_low=70.0, attribute_high=72.0) == {10, 11, 12}
    assert found(attribute="site", value="B") == set(range(0, 160, 3))
    assert found(attribute="report", attribute_kind="text", value="effusion 15") == {15, *range(150, 160)}
    assert len(found(attribute="report", attribute_kind="text")) == 160, "a column alone asks nothing"


def test_the_address_is_the_search(app, html, study):
    test = app.open("images", has=LABEL, sex="F", order="oldest")
    expected = wanted(study, Search(labels=((LABEL, "present"),), sex="F"))
    assert f">{len(expected)} images" in html(test)
    assert test.multiselect(key="_has").value == [LABEL]
    test.multiselect(key="_lacks").select("Edema").run()
    assert test.query_params["lacks"] == "Edema" and test.query_params["has"] == LABEL
    fewer = wanted(study, Search(labels=((LABEL, "present"), ("Edema", "absent")), sex="F"))
    assert f">{len(fewer)} image" in html(test) and len(fewer) < len(expected)
    assert "view=" in html(test), "a picture opens the viewer over this page"


@pytest.mark.parametrize("query", [
    {"has": "Nothing,Edema"}, {"sex": "X"}, {"attr": "none such"}, {"from": "abc"}, {"split": "'"},
    {"order": "; DROP TABLE"}, {"in": "?"}, {"page": "99999"}, {"fires": "9" * 9}, {"fires": "%';--"}, {"agelo": "nan"},
], ids=lambda query: "-".join(f"{k}={v[:12]}" for k, v in query.items()))  # fmt: skip
def test_links_that_ask_for_what_there_is_not(app, html, query):
    text = html(app.open("images", **query))
    assert "Research use only" in text


def test_what_is_exported_holds_no_path_and_no_patient(study):
    reader, scores, cohort = study
    seen = Study(Store(), reader, (scores, cohort), (), cohort, scores, None, "bits", patients=False)
    shown = view_image.table(seen, scores, cohort, Search())
    patients = set(table(study[2], "image")["patient"])
    assert len(shown) == 160 and "path" not in shown and not patients & set(shown["patient"])


def test_an_image_that_was_not_scored_says_so_and_why(app, html, data, ids):
    import duckdb

    path = data / "artifacts/scores" / ids.scores / "tables.duckdb"
    copy = path.read_bytes()
    path.unlink()
    path.write_bytes(copy)  # the fixture's files are shared by hard links
    with duckdb.connect(str(path)) as db:
        db.execute("DELETE FROM scored WHERE image = 3")
        db.execute("DELETE FROM activation WHERE image = 3")
    text = html(app.open("image", image=3, scores=ids.scores))
    assert "This image was not scored" in text and "It has no embedding" in text
    assert f"scores={ids.raw}" in text, "the scores that hold it are a link"
    for wrong in ("No picture is like it", "Nothing to list", "Why this score?"):
        assert wrong not in text
    assert "This image was not scored" not in html(app.open("image", image=4, scores=ids.scores))
