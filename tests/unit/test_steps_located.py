"""Localisation on what publishers' readers drew: which images count, boxes and masks at the cells, the whole way."""
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false, reportOptionalSubscript=false

import contextlib
import shutil

import duckdb
import numpy as np
import pandas as pd
import pytest

from medsae.geometry import box_mask
from medsae.runs import encode
from medsae.steps import located
from medsae.steps.located import Cells
from medsae.store.artifacts import Store
from tests.fixtures.spots import rsna, siim


class Cohort:
    """The tables of a cohort in memory."""

    def __init__(self, labels, boxes=(), masks=(), size=(40, 40), factors=()):
        self.tables = duckdb.connect()
        self.tables.execute("CREATE TABLE image (image INTEGER, width INTEGER, height INTEGER)")
        self.tables.execute("CREATE TABLE label_name (position INTEGER, label TEXT)")
        self.tables.execute("CREATE TABLE label (image INTEGER, label TEXT, value TINYINT)")
        self.tables.execute("CREATE TABLE box (image INTEGER, label TEXT, x DOUBLE, y DOUBLE, width DOUBLE,"
                            " height DOUBLE, reader TEXT)")  # fmt: skip
        self.tables.execute("CREATE TABLE mask (image INTEGER, finding TEXT, runs INTEGER[])")
        self.tables.execute("CREATE TABLE attribute (image INTEGER, attribute TEXT, value TEXT)")
        n = len(next(iter(labels.values())))
        self.tables.executemany("INSERT INTO image VALUES (?, ?, ?)", [(i, size[1], size[0]) for i in range(n)])
        self.tables.executemany("INSERT INTO label_name VALUES (?, ?)", list(enumerate(labels)))
        rows = [(i, name, v) for name, values in labels.items() for i, v in enumerate(values)]
        self.tables.executemany("INSERT INTO label VALUES (?, ?, ?)", rows)
        for table, given in (("box", boxes), ("mask", masks), ("attribute", factors)):
            for row in given:
                self.tables.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", list(row))

    @contextlib.contextmanager
    def connect(self):
        yield self.tables


def test_a_mark_counts_unless_the_majority_saw_nothing_or_did_not_agree():
    boxes = [(i, "Nodule/Mass", 1, 1, 5, 5, "R1") for i in range(4)] + [(4, "Calcification", 1, 1, 5, 5, "R2")]
    cohort = Cohort({"Nodule Mass": [1, 0, -1, None, 0, 1, None]}, boxes)
    image = np.arange(7)
    truth = located.truth(cohort, image, {"raw": 1, "random": 2, "preactivation": 3})
    assert list(truth.names) == ["Calcification", "Nodule/Mass"] and set(truth.rivals) == {"raw", "random"}
    # Image 1: one reader's box against the majority. 2: a draw. 3: marked, not stated. 5: present, nowhere marked.
    assert truth.factors_nf[:, 1].tolist() == [True, False, False, True, False, True, False]
    assert truth.mask_nf[:, 1].tolist() == [True, True, False, True, True, True, False]
    # A mark without a label of its name: whoever marks it, marks it wherever it is.
    assert truth.factors_nf[:, 0].tolist() == [False] * 4 + [True] + [False] * 2 and truth.mask_nf[:, 0].all()
    assert located.truth(cohort, image[5:], {}) is None, "no mark on these images"


def test_a_publisher_may_spell_a_mark_otherwise_than_its_label():
    cohort = Cohort({"Infiltration": [1, 0]}, [(0, "Infiltrate", 1, 1, 5, 5, None)])
    truth = located.truth(cohort, np.arange(2), {})
    assert truth.factors_nf[:, 0].tolist() == [True, False] and truth.mask_nf.all()


def test_boxes_of_several_readers_are_one_mask_and_boxes_of_another_size_none():
    outline = np.zeros((40, 40), bool)
    outline[30:, 30:] = True
    boxes = [(0, "A", 0, 0, 10, 10, "R1"), (0, "A", 5, 5, 10, 10, "R2"), (1, "A", 0, 0, 200, 200, "R1"),
             (2, "A", 30, 30, 10, 10, "R1")]  # fmt: skip
    cohort = Cohort({"A": [1, 1, 1]}, boxes, [(0, "A", encode(outline)), (0, "B", encode(outline))])
    cells = Cells((4, 4), 4.5, 10, 40)  # centres at 4.5, 14.5, 24.5, 34.5
    found = located._at_cells(cohort, {0: 7, 1: 8, 2: 9}, cells)
    assert set(found) == {"A", "B"} and set(found["A"]) == {7, 9} and set(found["B"]) == {7}
    inside, cover = found["A"][7]
    assert np.flatnonzero(inside).tolist() == [0, 5, 15]
    assert cover.reshape(4, 4)[0].tolist() == [1.0, 0.25, 0, 0] and cover[15] == 1


@pytest.mark.parametrize(
    "box, rows, columns",
    [((2, 3, 4, 5), slice(3, 8), slice(2, 6)), ((1.4, 0, 1.2, 1), slice(0, 1), slice(1, 3)),
     ((-1.5, 5, 3, 6.9), slice(5, 10), slice(0, 2))],
)  # fmt: skip
def test_pixels_of_a_box(box, rows, columns):
    wanted = np.zeros((10, 8), bool)
    wanted[rows, columns] = True
    assert (box_mask(box, (10, 8)) == wanted).all()


def test_a_box_that_leaves_the_picture_was_drawn_on_another():
    assert box_mask((0, 0, 10.5, 5), (10, 8)) is None and box_mask((-3, 0, 5, 5), (10, 8)) is None


class Planted:
    """A told study of hand-made values: neuron 1 fires for the finding."""

    seed, representations = 0, ("sae", "raw", "random")

    def __init__(self, cohort, n, recovery):
        self.cohort, self.recovery = cohort, pd.DataFrame(recovery)
        self.images = pd.DataFrame({"image": np.arange(n), "patient": [f"p{i}" for i in range(n)]})

    def size(self, space):
        return 3

    def fires(self, rows):
        return np.stack([rows % 2 == 0, rows >= 0, rows < 0], axis=1)

    def values(self, space, neuron, rows):
        return -(rows < 12).astype(float) if space == 1 else np.ones(len(rows))


def test_planted_factors_stand_before_what_readers_marked():
    mask = np.zeros((40, 40), bool)
    mask[:10, :10] = True
    n = 40
    factors = [(i, f"factor:{name}", "1") for i in range(12) for name in ("a", "a: left")]
    cohort = Cohort({"L": [None] * n}, [(0, "L", 1, 1, 5, 5, None)], [(i, "a", encode(mask)) for i in range(12)],
                    factors=factors)  # fmt: skip
    recovery = [
        {"factor": "a: left", "neuron": 1, "raw_neuron": 2, "random_neuron": None},
        {"factor": "b", "neuron": 0},
        {"factor": "a", "neuron": None},
    ]
    found = located.findings(Planted(cohort, n, recovery), Cells((4, 4), 4.5, 10, 40))
    assert [f.name for f in found] == ["a: left"] and found[0].source == "planted"
    assert dict(found[0].neurons) == {"sae": 1, "raw": 2}
    assert 0 < len(found[0].row) < 12, "the half of the patients that did not choose"
    sae, raw = found[0].questions(Planted(cohort, n, recovery))
    assert sae.sign == 1 and raw.sign == -1, "the raw direction is small where the finding is"
    assert sae.fires.all() and set(sae.other) <= {0, 1}
    assert (sae.asked.row == np.tile(found[0].row, 2)).all() and set(raw.asked.space) == {1}
    maps = np.zeros((len(sae.asked.row), 16))
    maps[: len(found[0].row), 0] = 1  # its own maps hit, those of others look at the last cell
    maps[len(found[0].row) :, 15] = 1
    row = sae.answer(np.vstack([maps, maps])[: len(maps)], 0)
    assert row["finding"] == "a: left" and row["source"] == "planted" and row["n"] == len(found[0].row)
    if row["hit"] is not None:
        assert (row["hit"], row["place"]) == (1, 0)


# --- the whole way: a publisher's folder with a bright spot where the box or the mask is


@pytest.mark.parametrize("source, write, finding", [("rsna", rsna, "Lung Opacity"), ("siim", siim, "Pneumothorax")])
def test_a_publishers_marks_are_scored_by_localisation(source, write, finding, medsae, tmp_path):
    write(tmp_path / source, 120)
    cohort = medsae.id("ingest", source, "--root", tmp_path / source)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    scores = medsae.id("score", "--embeddings", embeddings, "--representation", "raw", "--images", "all",
                       "--draws", 10, "--bootstraps", 10, "--deletions", 0)  # fmt: skip
    with Store(medsae.data).get(scores).connect() as tables:
        rows = tables.execute("SELECT * FROM localisation ORDER BY representation").df()
        recovered = tables.execute("SELECT count(*) FROM recovery").fetchone()
    assert recovered == (0,), "nothing was planted"
    assert set(rows["finding"]) == {finding} and set(rows["source"]) == {"readers"}
    assert list(rows["representation"]) == ["random", "raw"] and (rows["n"] >= 20).all()
    raw = rows.iloc[1]
    assert raw["hit"] > raw["exchanged"] + 0.2 and raw["p"] < 0.05, "a spot is where its box is"
    assert raw["area"] == pytest.approx((28 / 96) ** 2, abs=0.04) and raw["low"] <= raw["hit"] <= raw["high"]


# --- the simulated cohort, where every finding is known to the pixel


@pytest.mark.long
def test_findings_with_a_place_are_looked_at_more_than_anatomy_alone_gives(medsae, thorax):
    """Raw dimensions of simclip, on pictures that it was never trained on (another seed, coarse maps)."""
    shutil.copytree(thorax, medsae.data / "cache" / "simulated")
    cohort = medsae.id("ingest", "simulated", "--images", 420, "--size", 96, "--seed", 31)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    scores = medsae.id("score", "--embeddings", embeddings, "--representation", "raw", "--images", "all", "--draws", 10,
                       "--bootstraps", 10, "--deletions", 0, "--labels", "Pleural Effusion,Cardiomegaly")  # fmt: skip
    with Store(medsae.data).get(scores).connect() as tables:
        rows = tables.execute("SELECT * FROM localisation WHERE representation = 'raw'").df().set_index("finding")
    assert (rows["source"] == "planted").all()
    for finding in ("Pleural Effusion", "Consolidation", "Pacemaker"):
        row = rows.loc[finding]
        assert row["n"] >= 15 and row["hit"] > row["place"] + 0.1, "more than another neuron on the same picture"
        assert row["hit"] > row["exchanged"] + 0.1 and row["p"] < 0.05, "more than its own maps of other pictures"
    thin = rows.loc[["Lung Lesion", "Fracture", "Chest tube", "Endotracheal tube"]]
    assert (thin["hit"] <= 0.1).all(), "and what is finer than a cell is not looked at"
