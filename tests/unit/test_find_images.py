"""Which images a search finds, in a cohort of more images than 32 bits hold when they are shuffled."""

from dataclasses import replace

import pytest

from medsae import config as c
from medsae.store.artifacts import Store
from medsae.store.find_images import Search, find
from medsae.store.reader import Reader

N = 300_000


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """(cohort, scores): two labels of which every third is not stated, and one neuron that fires on a few images."""
    store = Store(tmp_path_factory.mktemp("data"))
    with store.build("many", c.IngestTable(table="t.csv", root="/t", pictures=False), {}) as build:
        with build.database() as db:
            db.execute("INSERT INTO image SELECT i, i || '.jpg', 'p' || i, 's', 'train', 'train', false, 'PA', true, 'F',"
                       " i % 90, 320, 320, NULL FROM range(?) r(i)", [N])  # fmt: skip
            for label, every in (("Edema", 4), ("Mass", 10)):
                db.execute("INSERT INTO label SELECT i, ?, CASE WHEN i % 3 = 0 THEN NULL WHEN i % ? = 0 THEN 1 ELSE 0"
                           " END FROM range(?) r(i)", [label, every, N])  # fmt: skip
        cohort = build.publish({})
    with store.build("scores", c.Score(sae="s"), {"cohort": cohort.id}) as build:
        with build.database() as db:
            db.execute("INSERT INTO neuron (neuron, max) VALUES (0, 2.0)")
            db.execute("INSERT INTO activation BY NAME SELECT i AS image, 0 AS neuron, 1.0 AS value"
                       " FROM range(0, ?, 1000) r(i)", [N])  # fmt: skip
        return cohort, build.publish({})


def test_a_search_by_labels_finds_what_one_that_looks_at_every_image_finds(studied):
    cohort, scores = studied
    for labels in ([("Edema", "present")], [("Edema", "absent"), ("Mass", "present")],
                   [("Edema", "unstated")], [("Edema", "unstated"), ("Mass", "unstated")]):  # fmt: skip
        for order in ("number", "random"):
            search = Search(labels=tuple(labels), order=order)
            some = find(Reader(), scores, cohort, search, 48, 96)
            every = find(Reader(), scores, cohort, replace(search, view="PA"), 48, 96)
            assert some.rows["image"].tolist() == every.rows["image"].tolist() and some.total == every.total > 0
    both = find(Reader(), scores, cohort, Search(labels=(("Edema", "present"), ("Mass", "present"))))
    assert both.rows["image"].tolist() == [i for i in range(0, N, 20) if i % 3][:48]
    assert both.total == sum(i % 3 > 0 for i in range(0, N, 20))


def test_with_a_neuron_both_are_asked(studied):
    cohort, scores = studied
    found = find(Reader(), scores, cohort, Search(labels=(("Edema", "present"),), neurons=(0,), order="strongest"))
    assert found.rows["image"].tolist() == [i for i in range(0, N, 1000) if i % 3][:48]
    assert found.total == sum(i % 3 > 0 for i in range(0, N, 1000)) and set(found.rows["strength"]) == {0.5}
