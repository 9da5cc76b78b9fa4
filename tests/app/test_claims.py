"""What the pages claim of a mean entropy: floor and sentence, several trainings, several numbers of images."""

import shutil
from dataclasses import replace

import duckdb
import numpy as np
import pytest

from medsae import config as c
from medsae.plugins import measures
from medsae.store import entropies
from medsae.store.artifacts import Store
from medsae.store.reader import Reader

PARTS = {1: 160.0, 2: 80.0, 5: 32.0}


def claims(value, p, ends=(3.0, 3.2, 3.5), shift=0.0):
    """Rows that scores of today have and the synthetic ones lack; `ends`: mean entropy of all, halves and fifths."""
    summary = [
        ("mean_entropy", value, value - 0.02, value + 0.02, 60, "bits"),
        ("null_mean_entropy", 3.40, 3.38, 3.42, 200, "bits"),
        ("mean_entropy_p_two_sided", p, None, None, 200, ""),
        ("entropy_floor", 2.75, None, None, 6, "bits"),
        ("entropy_relative", (value - 2.75) / 0.65, None, None, 60, "number"),
        ("paper_entropy_best", 2.1, 2.0, 2.2, 6, "nats"),
        ("paper_entropy_best_floor", 1.906, None, None, 6, "nats"),
        ("matched_raw_entropy", None, None, None, 0, "bits; only neurons of an SAE have a partner"),
    ]
    curve = [(left, parts, images, ends[i] + shift * (i + 1) + (0.001 * left if left >= 0 else 0), 60)
             for left in (-1, *range(10)) for i, (parts, images) in enumerate(PARTS.items())]  # fmt: skip
    return summary, curve


def again(store, old, config, parents, rows=None, facts=None):
    """The artifact `old` under another config, with other rows in its tables."""
    with store.build(f"again-{old.kind}", config, parents) as build:
        shutil.copy(old.file("tables.duckdb"), build.path / "tables.duckdb")
        with duckdb.connect(str(build.path / "tables.duckdb")) as db:
            if rows is not None:
                summary, curve = rows
                db.execute("DELETE FROM summary WHERE list_contains(?, measure)", [[row[0] for row in summary]])
                db.execute("DELETE FROM entropy_curve; DELETE FROM draw_measure")
                db.executemany("INSERT INTO summary VALUES (?, ?, ?, ?, ?, ?)", summary)
                db.executemany("INSERT INTO entropy_curve BY POSITION VALUES (?, ?, ?, ?, ?)", curve)
                db.execute("UPDATE label_summary SET floor = 2.5 + 0.01 * length(label)")
                draws = [("bootstrap", t, "mean_entropy", summary[0][1] + 0.01 * np.sin(t)) for t in range(50)]
                db.executemany("INSERT INTO draw_measure BY NAME SELECT ? AS kind, ? AS draw, ? AS measure, ? AS value",
                               draws)  # fmt: skip
        return build.publish(dict(old.facts) | (facts or {}))


def raw_of(ids, top):
    return c.Score(embeddings=ids.embeddings, representation="raw", images="all", seed=0, top=top).resolved()


@pytest.fixture
def study(data, ids):
    """SAE above its null and raw within it, as scores of today."""
    store = Store(data)
    sae, dense = store.get(ids.scores, "scores"), store.get(ids.raw, "scores")
    config = c.Score(sae=ids.sae, images="all", seed=0, top=77).resolved()
    raw = raw_of(ids, 77)
    first = again(store, sae, config, sae.parents, claims(3.52, 0.01))
    second = again(store, dense, raw, dense.parents, claims(3.41, 0.62, shift=0.02))
    return store, config, first, second


def test_overview_shows_floor_and_says_what_the_mean_entropy_says(app, html, study):
    _, _, first, second = study
    test = app.open("overview", scores=first.id, versus=second.id)
    text, captions = html(test), " ".join(one.value for one in test.caption)
    assert "floor 2.75" in text and "null 3.40, p 0.01" in text and "null 3.40, p 0.62" in text
    assert "its floor: perfect detectors" in text and "1.906" in text
    assert f"all images: mean entropy is {entropies.SAID['above']}." in captions
    assert entropies.SAID["within"] in captions and entropies.SAID["below"] not in captions
    assert "undefined: only neurons of an SAE have a partner" in text, "raw is not matched with itself"
    fve = measures.get("fve")
    assert fve.label in text and "undefined: there is no SAE" in text and "not computed then" in text


def test_a_page_of_older_scores_says_not_computed_then(app, html, data, ids):
    test = app.open("overview", scores=ids.scores, versus=ids.raw)
    assert html(test).count("not computed then") > 4
    assert not any(said in one.value for one in test.caption for said in entropies.SAID.values())


def test_entropy_shows_the_floor_of_each_label_and_neuron_that_of_its_own(app, html, study):
    _, _, first, second = study
    test = app.open("entropy", scores=first.id, versus=second.id, view="label")
    assert "floor 2.75" in html(test) and any(entropies.SAID["above"] in one.value for one in test.caption)
    (figure,) = [p.proto for p in test.get("plotly_chart") if "floor: never wrong about it" in p.proto.spec]
    assert "line-ns" in figure.spec
    assert "floor of " in html(app.open("neuron", scores=first.id, neuron=3))


def test_one_sign_at_every_size_is_settled_and_another_is_not(app, study, ids):
    store, _, first, second = study
    found = entropies.sizes(Reader(), first, second)
    assert found is not None and list(found.table.images) == [160, 80, 32]
    assert list(found.table.difference) == pytest.approx([-0.02, -0.04, -0.06])
    assert found.table["first"].tolist() == pytest.approx([3.0, 3.2, 3.5])
    # a + b / sqrt(n) + c / n through -0.02, -0.04 and -0.06 ends above 0: one sign at every size, another at the end.
    root = 1 / np.sqrt([160, 80, 32])
    end = np.linalg.solve(np.stack([np.ones(3), root, root**2], 1), [-0.02, -0.04, -0.06])[0]
    assert found.endless[2] is not None and found.endless[2].value == pytest.approx(end) and end > 0
    assert not found.settled
    captions = " ".join(one.value for one in app.open("overview", scores=first.id, versus=second.id).caption)
    assert "Not settled at this n" in captions and "One training each" in captions
    steady = again(store, second, raw_of(ids, 78), second.parents, claims(3.41, 0.62, (3.3, 3.5, 3.8)))
    assert (entropies.sizes(Reader(), first, steady) or found).settled, "-0.3 at every size and at the end"
    captions = " ".join(one.value for one in app.open("overview", scores=first.id, versus=steady.id).caption)
    assert "One sign at every size, and 0 is left out at the end: settled." in captions
    assert entropies.sizes(Reader(), store.get(ids.scores, "scores"), None) is None, "older scores have no curve"


def test_trainings_of_one_configuration_are_a_family_and_others_are_not(app, html, study, ids):
    store, config, first, second = study
    sae = store.get(ids.sae, "sae")
    train = c.Train(embeddings=ids.embeddings, k=16, expansion=3, seed=0).resolved(160)
    family = [first]
    for seed, value in ((1, 3.48), (2, 3.56)):
        made = again(store, sae, replace(train, seed=seed), sae.parents, facts={"seed": seed})
        parents = dict(first.parents) | {"sae": made.id}
        family.append(again(store, first, replace(config, sae=made.id), parents, claims(value, 0.01)))
    other = again(store, first, replace(config, sae=sae.id, uncertain="zero"), first.parents, claims(3.3, 0.01))
    artifacts = store.list()
    found = entropies.family(artifacts, first)
    assert other.id not in {one.id for one in found}, "scored under another label policy"
    assert entropies.family(artifacts, second) == [second], "raw has no seed"
    assert [one.id for one in found] == [one.id for one in family], "in the order of seeds"
    assert [one.id for one in entropies.family(artifacts, family[2])] == [one.id for one in family]
    shift = entropies.shift(Reader(), found, [second])
    assert shift.seeds == 3 and shift.value == pytest.approx((3.52 + 3.48 + 3.56) / 3 - 3.41)
    assert shift.spread == pytest.approx(0.04)
    # The draws move alike: only the trainings are unsure, three of them with two degrees of freedom.
    assert shift.low is not None and shift.value is not None
    assert shift.value - shift.low == pytest.approx(4.303 * 0.04 / 3**0.5, rel=1e-3)
    test = app.open("overview", scores=first.id, versus=second.id)
    assert "3 trainings" in html(test) and any("covers other seeds too" in one.value for one in test.caption)
