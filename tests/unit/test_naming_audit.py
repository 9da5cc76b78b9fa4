"""The audit of a judge: its known error comes back as AUROC, its answers are kept, and the page shows it."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from medsae import config as c
from medsae.naming.audit import Sample, choose, interval, result
from medsae.naming.memory import Known
from medsae.progress import Silent
from medsae.steps.naming import name
from medsae.store.artifacts import Store
from medsae.store.ledger import Ledger

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw


def test_a_sample_is_balanced_and_has_a_patient_once():
    values = {i: int(i % 3 == 0) for i in range(120)}
    sample = choose(values, lambda image: image // 2, "Edema", seed=0)
    assert sample is not None and len(sample.present) == 40 and sum(sample.present.values()) == 20
    assert len({i // 2 for i in sample.present}) == 40
    assert all(sample.present[i] == bool(values[i]) for i in sample.present)
    assert choose(values, lambda image: image // 2, "Edema", seed=0) == sample
    assert choose({i: int(i < 4) for i in range(100)}, lambda i: i, "x", seed=0) is None, "4 are too few"


@pytest.mark.parametrize("area", [0.5, 0.7, 0.9, 1.0])
def test_the_interval_covers(area):
    """Simulated judges of a known AUROC, 20 + 20 pictures: at least 92 % of the intervals hold it (1.0: always)."""
    from scipy.special import ndtri

    rng, hits = np.random.default_rng(0), 0
    shift = 50.0 if area == 1.0 else np.sqrt(2) * float(ndtri(area))
    for _ in range(300):
        p = 1 / (1 + np.exp(-np.concatenate([rng.normal(shift, 1, 20), rng.normal(0, 1, 20)])))
        sample = Sample("x", {i: i < 20 for i in range(40)})
        row = result(sample, {i: Known("ok", bool(p[i] > 0.5), float(p[i]), 1.0, None) for i in range(40)})
        assert 0 <= row["low"] <= row["auroc"] <= row["high"] <= 1
        hits += row["low"] <= area <= row["high"] + 1e-9
    assert hits / 300 >= 0.92
    assert interval(1.0, 20, 20)[0] == pytest.approx(0.90, abs=0.01), "not certain even when all were right"


def test_a_judge_s_known_error_comes_back_and_is_not_asked_twice(tmp_path):
    """It tells every factor with an error of 15 % but one, which it cannot see at all."""
    world = nw.build(tmp_path, images=260, neurons=2, share=0.5)
    server = nw.Server(world, error=0.15)
    blind, verdict = nw.FACTORS[3], server.verdict
    server.verdict = lambda concept, number: verdict("nothing of this world" if concept == blind else concept, number)
    said = []

    class Said(Silent):
        def say(self, message):
            said.append(message)

    with server.serve() as address:
        config = c.Name(scores=world.scores, neurons="0", pictures=5, backend="endpoint", endpoint=address)
        found = name(config, Store(world.data), Said())
        asked = len(server.requests)
        assert found["asked"] == asked and asked <= 400 + 31
        assert name(replace(config, neurons="0,1"), Store(world.data), Silent())["exit"] == 0
        assert len(server.requests) - asked <= 31, "the judge is known by now"
        assert max(Counter(text + str(n) for text, n in server.requests).values()) == 1
    audits = Ledger(Store(world.data), world.scores).audits().set_index("label")
    assert sorted(audits.index) == sorted(nw.FACTORS) and (audits["judged"] == 40).all()
    sees = audits.drop(index=blind)
    assert abs(sees["auroc"].mean() - 0.85) < 3.3 * np.sqrt(0.85 * 0.15 / 360)
    assert audits["low"][blind] < 0.5 < audits["high"][blind] + 0.2 and audits["auroc"][blind] < sees["auroc"].min()
    assert any("this judge tells" in line and f"{blind} at 0." in line for line in said)


def test_without_it_nothing_is_asked_and_the_labels_need_none(tmp_path):
    world = nw.build(tmp_path, images=260, neurons=2, share=0.5)
    server = nw.Server(world)
    with server.serve() as address:
        config = c.Name(scores=world.scores, neurons="0", pictures=5, backend="endpoint", endpoint=address, audit=False)
        name(config, Store(world.data), Silent())
    assert len(server.requests) == 31
    name(c.Name(scores=world.scores, neurons="0"), Store(world.data), Silent())
    assert len(Ledger(Store(world.data), world.scores).audits()) == 0
