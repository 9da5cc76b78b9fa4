"""Pairs that differ in one factor: what is changed, that nothing else is, and the step from cohort to artifact."""

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsae import config as c
from medsae import simulated
from medsae.encoders import plan
from medsae.progress import Silent, UserError
from medsae.simulated import compose, patients, probabilities, projection
from medsae.simulated import pairs as planted
from medsae.simulated.pairs import Factor
from medsae.steps import pairs as step
from medsae.steps.simulate import jpeg_of
from medsae.store import planted_pairs
from medsae.store.artifacts import Store
from medsae.store.reader import Reader

SIZE = 96
FACTORS = planted.factors()


@pytest.fixture(scope="module")
def studies():
    return list(simulated.plan(400, seed=11))


def facts(study):
    return probabilities.factors(study.present, study.sex, study.age)


# --- what is changed --------------------------------------------------------------------------------------------------


def test_factors_are_those_of_the_cohort_at_their_finest_place(studies):
    names = [factor.name for factor in FACTORS]
    assert len(set(names)) == len(names) and set(names) <= set(facts(studies[0]))
    places = {name.partition(":")[0] for name in names if ":" in name}
    assert not places & set(names), "a finding with places stands for itself only through them"
    assert {name.partition(":")[0] for name in facts(studies[0])} == {factor.finding for factor in FACTORS}


@pytest.mark.parametrize("factor", FACTORS, ids=lambda f: f.name)
def test_a_pair_differs_in_one_factor_and_nothing_else(studies, factor):
    for study in studies[:40]:
        bare, full = planted.without(study, factor.finding), planted.plant(study, factor, 0.7)
        assert not facts(bare)[factor.finding] and facts(full)[factor.name]
        for name in facts(study):
            if name.partition(":")[0] != factor.finding:
                assert facts(bare)[name] == facts(full)[name] == facts(study)[name], name
        others = set(study.present) - {factor.finding}
        assert all(bare.present[o] == full.present[o] == study.present[o] for o in others)
        assert list(full.present) == [name for name in planted.RULES if name in full.present]
        if factor.finding not in ("AP view", "Collimation"):
            assert bare.take is study.take and full.take is study.take
        if factor.finding not in ("Cardiomegaly", planted.SEX, planted.AGE):
            assert bare.body is study.body and full.body is study.body


def test_a_body_and_a_take_are_made_again_as_they_were(studies):
    for study in studies[:80]:
        same = patients.body_as(study, study.sex, study.age - study.study + 1)
        for name, value in vars(same).items():
            assert np.array_equal(value, getattr(study.body, name)), name
        assert patients.take_as(study, study.present) == study.take


def test_the_other_sex_has_another_build_and_the_same_bones(studies):
    man = next(s for s in studies if s.sex == "Male")
    woman = planted.plant(man, Factor(planted.SEX))
    assert woman.body.breast_mm > 0 == man.body.breast_mm
    assert man.body.width - woman.body.width == pytest.approx(0.05)
    for name in ("bone", "cartilage", "aorta_mm", "ratio", "fat", "waist"):
        assert getattr(man.body, name) == getattr(woman.body, name)


def test_a_heart_of_its_own_severity_is_the_heart_that_was_planned(studies):
    ill = next(s for s in studies if "Cardiomegaly" in s.present)
    again = planted.plant(ill, Factor("Cardiomegaly"), ill.present["Cardiomegaly"].severity)
    assert again.body.ratio == ill.body.ratio
    assert planted.without(ill, "Cardiomegaly").body.ratio == planted.RATIO_WITHOUT


def test_a_lesion_grows_at_one_place(studies):
    kinds = [planted.plant(studies[0], Factor("Lung Lesion", "RUL"), s).present["Lung Lesion"] for s in (0.2, 0.6, 0.8)]
    assert [k.kind for k in kinds] == ["nodule", "nodule", "mass"]


def test_what_is_drawn_of_a_patient():
    study = next(s for s in simulated.plan(400, seed=11) if {"Edema", "Pacemaker"} <= set(s.present))
    found = planted.session(study, FACTORS, [0.2, 0.5, 0.8])
    assert found.shots[0].study is study
    for factor, before, after in zip(FACTORS, found.before, found.after, strict=True):
        assert len(after) == (3 if factor.graded else 1)
        assert not facts(found.shots[before].study)[factor.finding]
        assert (before == 0) == (not facts(study)[factor.finding])
        assert all(found.shots[k].factor == factor.name for k in after)
        if factor.graded:
            assert [found.shots[k].severity for k in after] == [0.2, 0.5, 0.8]


@pytest.fixture(scope="module")
def prepared(thorax):
    return projection.read(simulated.prepare(thorax, SIZE), simulated.quality_for(SIZE))


@pytest.mark.long
def test_a_marker_changes_its_corner_alone(prepared, studies):
    study = next(s for s in studies if "Marker L" not in s.present and "Collimation" not in s.present)
    bare, full = (compose.draw(prepared, s, SIZE).picture for s in (study, planted.plant(study, Factor("Marker L"))))
    where = np.argwhere(np.abs(full - bare) > 1)
    assert len(where) and where[:, 0].max() < 0.35 * SIZE and where[:, 1].min() > 0.7 * SIZE


# --- the step ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory, medsae_at, thorax):
    """(commands, embeddings, SAE) of a small simulated cohort."""
    medsae = medsae_at(tmp_path_factory.mktemp("pairs") / "data")
    shutil.copytree(thorax, medsae.data / "cache" / "simulated")
    cohort = medsae.id("ingest", "simulated", "--images", 120, "--size", SIZE, "--evaluation-share", 0.4)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip", "--precision", "fp32")
    sae = medsae.id("train", "--embeddings", embeddings, "--expansion", 1, "--epochs", 3)
    return medsae, embeddings, sae


QUICK: dict[str, Any] = dict(patients=8, severities="0.3,0.7", workers=1)
FEW = [f for f in FACTORS if f.name in ("Edema", "Pleural Effusion:right", "Pleural Effusion:left", "Pacemaker:left",
                                        "Marker L", "AP view", "Female", "Cardiomegaly")]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def few():
    """The real step with some of the factors: it is the same for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "factors", lambda: FEW)
        yield


def blank(_):
    """In the place of a drawn picture, where what is drawn is of no account."""
    return jpeg_of(Image.new("L", (64, 64), 99))


def table(artifact, name):
    with artifact.connect() as connection:
        return connection.execute(f"SELECT * FROM {name}").df()


@pytest.fixture(scope="module")
def made(drawn, few):
    medsae, _, sae = drawn
    medsae.id("train", "--embeddings", drawn[1], "--expansion", 1, "--epochs", 3, "--untrained")
    return Store(medsae.data).get(step.pairs(c.Pairs(sae=sae, **QUICK), Store(medsae.data), Silent())["id"])


@pytest.mark.long
def test_a_neuron_made_to_follow_one_factor_has_specificity_one(drawn, monkeypatch):
    """Embeddings made by hand: dimension j is 1 where factor j is in the picture. The whole way from the studies that
    are drawn to the tables must give each factor its own dimension, and nothing else."""
    medsae, embeddings, _ = drawn

    def by_hand(pictures, *_):
        shots = [shot for session in pictures.sessions for shot in session.shots]
        return np.array([[facts(s.study)[f.name] for f in FACTORS] for s in shots], np.float32), {}

    monkeypatch.setattr(planted, "factors", lambda: FACTORS)
    monkeypatch.setattr(step, "_draw", blank)
    monkeypatch.setattr(step, "_embedded", by_hand)
    store = Store(medsae.data)
    made = store.get(step.pairs(c.Pairs(embeddings=embeddings, seed=5, **QUICK), store, Silent())["id"])
    reader = Reader()
    for parts in (True, False):
        best = planted_pairs.best(reader, made, parts, "raw")
        assert best["specificity"].tolist() == [1.0] * len(best), best[best["specificity"] != 1.0]
        assert best["recovery"].tolist() == [1.0] * len(best) or not parts
        if parts:
            assert best["neuron"].tolist() == list(range(len(FACTORS)))
        assert planted_pairs.overall(reader, made, parts).set_index("representation")["specificity"]["raw"] == 1
    reader.close()


@pytest.mark.long
def test_everything_is_measured_beside_its_rivals(made):
    overall = table(made, "overall").set_index(["parts", "representation"])
    assert {name for _, name in overall.index} == {"sae", "untrained", "raw", "random"}
    assert overall["recovery"].between(-1, 1).all()
    assert overall["factors"][True]["sae"] == len(FEW) and overall["factors"][False]["sae"] == len(FEW) - 1
    moved = table(made, "moved")
    assert set(moved["representation"]) == {"sae", "raw"}
    total = moved.groupby(["representation", "parts", "neuron"])["specificity"].sum()
    assert total.to_numpy() == pytest.approx(np.ones(len(total)))
    assert (moved["low"] <= moved["change"]).all() and (moved["change"] <= moved["high"]).all()


@pytest.mark.long
def test_patients_are_those_of_the_evaluation_split_and_drawn_as_the_cohort_was(made, drawn):
    of = Store(drawn[0].data).get(made.parents["cohort"])
    images = table(of, "image").set_index("image")
    shown = table(made, "drawn")
    assert shown["reproduced"].all() and shown["patient"].is_unique and len(shown) == 8
    assert (images["split"][shown["image"]] == "evaluation").all()
    assert images["patient"][shown["image"]].tolist() == shown["patient"].tolist()
    assert shown["chooses"].sum() == 4


@pytest.mark.long
def test_the_same_question_has_the_same_bits_and_goes_on_where_it_stopped(made, drawn, tmp_path, monkeypatch):
    data = shutil.copytree(drawn[0].data, tmp_path / "data")
    shutil.rmtree(data / "artifacts" / "pairs")
    store, config = Store(data), c.Pairs(sae=drawn[2], **QUICK)
    with monkeypatch.context() as broken, pytest.raises(RuntimeError, match="the machine goes down"):

        def fail(*_):
            raise RuntimeError("the machine goes down")

        broken.setattr(step, "_embedded", fail)
        step.pairs(config, store, Silent())
    pieces = sorted((data / "artifacts" / "pairs").glob(".building-*/.shards/drawn/*.parquet"))
    assert len(pieces) == 8
    with monkeypatch.context() as quick:
        quick.setattr(step, "_draw", None)  # a patient that were drawn anew would need it
        quick.setattr(plan, "_fastest", None)  # so would a layout that were measured anew: it may be another one today
        again = store.get(step.pairs(config, store, Silent())["id"])
    assert again.id == made.id
    for name in ("moved", "best", "overall", "dose", "example", "drawn", "factor"):
        assert table(again, name).equals(table(made, name)), name


@pytest.mark.long
def test_without_an_sae_raw_and_random_stand_alone_and_where_nothing_changes_nothing_is_found(drawn, monkeypatch):
    monkeypatch.setattr(step, "_draw", blank)
    store = Store(drawn[0].data)
    raw = store.get(step.pairs(c.Pairs(embeddings=drawn[1], **QUICK), store, Silent())["id"])
    assert set(table(raw, "overall")["representation"]) == {"raw", "random"}
    assert raw.facts["m"] == store.get(drawn[1]).facts["d"] and raw.facts["reproduced"] == 0
    assert table(raw, "best")["neuron"].isna().all() and table(raw, "moved").empty and table(raw, "dose").empty
    assert (table(raw, "overall")["recovery"] == 0).all()


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_cohort_that_was_not_drawn_is_refused_with_the_reason(medsae, chexpert_root):
    cohort = medsae.id("ingest", "chexpert", "--root", chexpert_root)
    embeddings = medsae.id("embed", "--cohort", cohort, "--encoder", "simclip")
    status, _, err = medsae("pairs", "--embeddings", embeddings)
    assert status == 2 and "were not drawn here" in err and "simulated" in err
    assert not list((medsae.data / "artifacts").glob("pairs/*"))


@pytest.mark.long
def test_embeddings_made_elsewhere_are_refused(drawn, tmp_path):
    medsae, embeddings, _ = drawn
    of = Store(medsae.data).get(embeddings)
    with Store(medsae.data).get(of.parents["cohort"]).connect() as connection:
        paths = connection.execute("SELECT path FROM image ORDER BY image").df()["path"]
    shutil.copy(of.file("x.npy"), tmp_path / "x.npy")
    (tmp_path / "rows.csv").write_text("\n".join(["Path", *paths]))
    made = medsae.id("embed", "--cohort", of.parents["cohort"], "--from", tmp_path / "x.npy", "--rows",
                     tmp_path / "rows.csv", "--name", "mine")  # fmt: skip
    status, _, err = medsae("pairs", "--embeddings", made)
    assert status == 2 and "made elsewhere" in err


@pytest.mark.long
def test_more_patients_than_there_are(drawn):
    status, _, err = drawn[0]("pairs", "--sae", drawn[2], "--patients", 4000)
    assert status == 2 and "4000 are asked for" in err


@pytest.mark.long
def test_the_control_of_another_sae_is_refused(drawn):
    status, _, err = drawn[0]("pairs", "--sae", drawn[2], "--untrained", drawn[2])
    assert status == 2 and "is not the untrained control" in err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (dict(sae="a", embeddings="b"), "either --sae or --embeddings"),
        (dict(), "either --sae or --embeddings"),
        (dict(sae="a", patients=7), "at least 8"),
        (dict(sae="a", severities="0.5,0.2"), "must rise"),
        (dict(sae="a", severities="0.5,1.2"), "from 0 to 1"),
        (dict(sae="a", severities="mild"), "could not convert"),
        (dict(sae="a", severities=","), "names no severity"),
        (dict(embeddings="a", untrained="b"), "goes with --sae"),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(v) or "none",
)
def test_what_cannot_be_asked(options, why):
    with pytest.raises(UserError, match=why):
        c.Pairs(**options)


def test_the_study_that_is_drawn_is_a_copy(studies):
    before = dataclasses.asdict(studies[3])
    planted.session(studies[3], FACTORS, [0.5])
    for name, value in dataclasses.asdict(studies[3]).items():
        assert str(value) == str(before[name])
