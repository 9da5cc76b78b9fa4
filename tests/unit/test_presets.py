"""What `run paper` trains and scores, without doing it."""

from types import SimpleNamespace
from typing import Any

import pytest

from medsae import config as c
from medsae.progress import Silent
from medsae.steps import presets


@pytest.fixture
def asked(monkeypatch):
    """The configs of every step, each answered by an artifact named after it; the cohort has 30,000 pictures."""
    configs: list[Any] = []
    n = SimpleNamespace(pictures=30_000)

    def run(config, store, progress):
        configs.append(config)
        return {"id": f"{config.makes}-{len(configs)}", "facts": {"n": n.pictures}}

    monkeypatch.setattr(presets, "run", run)
    return configs, n


def seeds_of(configs):
    return [one.seed for one in configs if isinstance(one, c.Train)]


def test_three_trainings_of_a_cohort_where_it_is_affordable(asked):
    configs, n = asked
    last = presets.run_preset(c.RunPaper(root="DIR"), None, Silent())  # type: ignore[arg-type]
    trained = [one for one in configs if isinstance(one, c.Train)]
    assert seeds_of(configs) == [0, 1, 2] and {one.preset for one in trained} == {"paper"}
    assert {one.embeddings for one in trained} == {"embeddings-2"}
    scored = [one for one in configs if isinstance(one, c.Score)]
    # Two trainings beside the first, the raw embedding, and the first: all under one protocol, so that they pair.
    assert [one.versus for one in scored] == ["sae-3", "sae-3", None, None]
    assert {one.protocol for one in scored} == {"paper"} and {one.seed for one in scored} == {0}
    assert scored[2].representation == "raw" and scored[3].sae == "sae-3" and last["id"] == f"scores-{len(configs)}"
    assert [one.sae for one in scored[:2]] == ["sae-4", "sae-6"]
    configs.clear()
    n.pictures = 30_001
    presets.run_preset(c.RunPaper(root="DIR"), None, Silent())  # type: ignore[arg-type]
    assert seeds_of(configs) == [0]


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_seeds_are_as_many_as_asked_for(asked, seeds):
    configs, n = asked
    n.pictures = 200_000
    presets.run_preset(c.RunPaper(root="DIR", seeds=seeds), None, Silent())  # type: ignore[arg-type]
    assert seeds_of(configs) == list(range(seeds))
