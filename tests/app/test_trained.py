"""What an SAE was trained on, and its untrained control, on the pages that show its numbers."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from medsae import config as c
from medsae.store import trained
from medsae.store.artifacts import Store


def _like(store: Store, old: str, kind: str, parents: dict[str, str], config, facts: dict) -> str:
    """An artifact with the tables of another one."""
    source = store.get(old, kind)
    with store.build(f"other-{kind}", config, parents) as build:
        if build.existing:
            return build.id
        with build.database() as connection:
            connection.execute(f"ATTACH '{source.path / 'tables.duckdb'}' AS old (READ_ONLY)")
            for (name,) in connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'old'"
            ).fetchall():
                connection.execute(f"INSERT INTO {name} BY NAME SELECT * FROM old.{name}")
            connection.execute("DETACH old")
        build.publish(source.facts | facts)
        return build.id


def _other_sae(ids, facts: dict, lower: float = 0.0, **changed) -> str:
    """Scores of another SAE of the same study, whose mean entropy is `lower` bits lower."""
    store = Store()
    sae = store.get(ids.sae, "sae")
    config = c.Train(embeddings=ids.embeddings, k=16, seed=9, untrained=bool(facts.get("untrained")))
    other = _like(store, ids.sae, "sae", sae.parents, config.resolved(100), facts)
    old = store.get(ids.scores, "scores")
    asked = replace(c.Score(sae=other, images="all", seed=0).resolved(), **changed)
    scores = _like(store, ids.scores, "scores", {**old.parents, "sae": other}, asked, {})
    return scores


def test_the_untrained_control_is_a_row_beside_each_measure(app, html, data, ids):
    before = html(app.open("overview", scores=ids.scores))
    assert "untrained control" not in before
    _other_sae(ids, {"untrained": True, "control_of": ids.sae})
    for page in ("overview", "compare"):
        app.test.query_params.clear()
        text = html(app.open(page, scores=ids.scores, versus=ids.raw))
        assert text.count("untrained control") >= 4, page


def test_a_control_that_was_scored_otherwise_is_not_the_control(data, ids):
    store = Store()
    scores = _other_sae(ids, {"untrained": True, "control_of": ids.sae}, uncertain="zero")
    every = store.list()
    assert trained.control(every, store.get(ids.scores)) is None
    found = _other_sae(ids, {"untrained": True, "control_of": ids.sae})
    control = trained.control(store.list(), store.get(ids.scores))
    assert control is not None and control.id == found != scores
    assert trained.control(store.list(), store.get(ids.raw)) is None


@pytest.mark.parametrize("page", ["overview", "neuron", "compare", "concepts"])
def test_an_imported_sae_says_that_its_training_images_are_unknown(page, app, html, data, ids):
    scores = _other_sae(ids, {"origin": {"format": "saelens"}, "n_train": None})
    assert "trained on: unknown" in html(app.open(page, scores=scores))


def _artifact(kind: str, id: str, config: dict, facts: dict, parents: dict) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, id=id, config=config, facts=facts, parents=parents)


@pytest.mark.parametrize(
    ("sae", "scored", "protocol", "found"),
    [
        (("train", {}), "evaluation", "strict", trained.OTHERS),
        (("train", {}), "holdout", "strict", trained.OTHERS),
        (("train", {}), "all", "strict", trained.SCORED),
        (("train", {}), "train", "strict", trained.SCORED),
        (("all", {}), "evaluation", "strict", trained.SCORED),
        (("train", {}), "evaluation", "paper", trained.SCORED),
        (("train", {"origin": {"format": "saev"}}), "evaluation", "strict", trained.UNKNOWN),
        (("train", {"untrained": True}), "evaluation", "strict", trained.NOTHING),
    ],
)
def test_what_an_sae_was_trained_on(sae, scored, protocol, found):
    cohort = _artifact("cohort", "c", {"protocol": protocol}, {}, {})
    model = _artifact("sae", "s", {"images": sae[0]}, sae[1], {})
    scores = _artifact("scores", "z", {"images": scored}, {}, {"sae": "s", "cohort": "c"})
    assert trained.trained_on([cohort, model, scores], scores) == found  # type: ignore[arg-type]
    assert trained.trained_on([cohort, scores], scores) == trained.UNKNOWN, "a lost SAE has seen nobody knows what"  # type: ignore[arg-type]
