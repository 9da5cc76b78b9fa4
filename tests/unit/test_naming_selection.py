"""Which pictures are shown: disjoint patients, no duplicates, spread over quantiles, and said when there are too few."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from medsae.naming import selection
from medsae.naming.selection import Activity, Patients, Wish, choose_paper, choose_strict, difference_hash


def activity(rng, images, firing):
    order = rng.permutation(images)
    fires, silent = order[:firing], np.sort(order[firing:])
    return Activity(fires, np.sort(rng.uniform(0.1, 5, firing))[::-1], silent)


def strict(act, patients, hash_of=lambda image: None, own=None, **options):
    own = np.zeros(len(patients.code_n), bool) if own is None else own
    return choose_strict(0, act, patients, hash_of, own, Wish(**({"pictures": 30} | options)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 600))
def test_naming_and_detection_never_share_a_patient(seed, firing):
    rng = np.random.default_rng(seed)
    patients = Patients.of([f"p{i // 2}" for i in range(800)], seed)
    act = activity(rng, 800, firing)
    plan = strict(act, patients, seed=seed)
    if plan.status != "ok":
        assert plan.note and not plan.tested
        return
    naming = {int(patients.code_n[i]) for i in plan.naming}
    tested = [int(patients.code_n[t.image]) for t in plan.tested]
    assert len(naming) == len(plan.naming) and len(set(tested)) == len(tested) == 60
    assert naming.isdisjoint(tested)
    assert all(patients.names_n[i] for i in plan.naming) and not any(patients.names_n[t.image] for t in plan.tested)
    firing_patients = set(patients.code_n[act.images].tolist())
    for t in plan.tested:
        assert (t.image in act.images) == t.fires
        assert t.fires or int(patients.code_n[t.image]) not in firing_patients
    counts = np.bincount([t.quantile for t in plan.tested if t.fires], minlength=6)[1:]
    assert counts.sum() == 30 and counts.min() >= 1


def test_the_choice_is_a_function_of_the_seed():
    patients = Patients.of([f"p{i}" for i in range(600)], 0)
    act = activity(np.random.default_rng(0), 600, 200)
    assert strict(act, patients) == strict(act, patients)
    assert strict(act, patients) != strict(act, patients, seed=1)


def test_the_split_depends_on_the_patient_alone():
    few, many = Patients.of(["a", "b", "a"], 7), Patients.of(["z", "b", "q", "a"], 7)
    assert few.names_n[0] == few.names_n[2] == many.names_n[3] and few.names_n[1] == many.names_n[1]
    share = Patients.of([f"p{i}" for i in range(6000)], 0).names_n.mean()
    assert share == pytest.approx(selection.NAMING_SHARE, abs=0.03)


def test_the_strongest_pictures_name_first():
    patients = Patients.of([f"p{i}" for i in range(600)], 0)
    act = activity(np.random.default_rng(1), 600, 300)
    plan = strict(act, patients)
    strongest = [int(i) for i in act.images if patients.names_n[i]][: selection.NAMING_TOP]
    assert list(plan.naming[: plan.top]) == strongest and len(plan.naming) == 16
    rank = {int(i): r for r, i in enumerate(act.images)}
    assert [rank[i] for i in plan.naming] == sorted(rank[i] for i in plan.naming)


def test_hard_negatives_carry_the_label_and_are_silent():
    patients = Patients.of([f"p{i}" for i in range(900)], 0)
    act = activity(np.random.default_rng(2), 900, 200)
    own = np.zeros(900, bool)
    own[act.silent[::2]] = True
    plan = strict(act, patients, own=own, hard=0.5)
    hard = [t for t in plan.tested if t.hard]
    assert all(not t.fires and own[t.image] for t in hard) and len(hard) >= 15
    assert plan.facts["hard"] == 15


def test_near_duplicates_count_once():
    """Every picture has a twin of another patient: no twins are shown together."""
    patients = Patients.of([f"p{i}" for i in range(1200)], 0)
    act = activity(np.random.default_rng(3), 1200, 500)
    bits = np.random.default_rng(4).integers(0, 2, (600, 256))
    code = [int("".join(map(str, row)), 2) for row in bits]
    plan = strict(act, patients, hash_of=lambda i: code[i // 2] ^ (0b111 if i % 2 else 0))
    shown = [i // 2 for i in plan.naming] + [t.image // 2 for t in plan.tested]
    assert plan.status == "ok" and len(set(shown)) == len(shown) and plan.facts["duplicates"] > 0


def test_difference_hash_sees_through_copies_and_tells_pictures_apart():
    rng = np.random.default_rng(0)

    def webp(image, **options):
        out = io.BytesIO()
        image.save(out, "WEBP", **options)
        return out.getvalue()

    pictures = [
        Image.fromarray(rng.integers(0, 255, (12, 10)).astype(np.uint8)).resize((160, 140), 3) for _ in range(6)
    ]
    codes = [difference_hash(webp(p)) for p in pictures]
    for picture, code in zip(pictures, codes, strict=True):
        copy = ImageEnhance.Brightness(picture).enhance(0.9).resize((120, 105))
        assert (code ^ difference_hash(webp(copy, quality=50))).bit_count() <= selection.SAME_BITS
    apart = [(a ^ b).bit_count() for i, a in enumerate(codes) for b in codes[:i]]
    assert min(apart) > 60


@pytest.mark.parametrize(("firing", "status", "words"), [
    (0, "dead", "fires on none"),
    (12, "too few", "30 to test it"),
    (34, "too few", "--pictures"),
    (599, "too few silent", "silent"),
])  # fmt: skip
def test_what_cannot_be_asked_is_said_with_the_number_needed(firing, status, words):
    patients = Patients.of([f"p{i}" for i in range(600)], 0)
    plan = strict(activity(np.random.default_rng(5), 600, firing), patients)
    assert plan.status == status and words in plan.note


def test_the_suggested_number_of_pictures_is_enough():
    patients = Patients.of([f"p{i}" for i in range(600)], 0)
    act = activity(np.random.default_rng(5), 600, 34)
    number = int(strict(act, patients).note.split("--pictures ")[1].split()[0])
    assert strict(act, patients, pictures=number).status == "ok"


def test_the_published_choice():
    """Top 15 and 15 around rank min(100, 2/3 of the firing); top 30 and 30 silent; more than 60 must fire."""
    act = activity(np.random.default_rng(6), 600, 300)
    plan = choose_paper(0, act, pictures=30, seed=0)
    assert list(plan.naming[:15]) == act.images[:15].tolist()
    assert list(plan.naming[15:]) == act.images[93:108].tolist()
    assert {t.image for t in plan.tested if t.fires} == set(act.images[:30].tolist())
    assert len(plan.tested) == 60 and all(t.image in act.silent for t in plan.tested if not t.fires)
    assert choose_paper(0, activity(np.random.default_rng(6), 600, 60), pictures=30, seed=0).status == "too few"
    small = choose_paper(0, activity(np.random.default_rng(6), 600, 61), pictures=30, seed=0)
    assert small.status == "ok" and len(set(small.naming)) == 30
