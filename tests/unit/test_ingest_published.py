"""Each publisher's download, built small, read by the command that docs/ingest.md gives, against pandas."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsae import runs as run_lengths
from medsae.store.artifacts import Store
from tests.fixtures import downloads

DOCS = Path(__file__).parents[2] / "docs/ingest.md"
COMMANDS = re.findall(r"`python -m medsae (ingest [\w-]+ --root [^`\n]+)`", DOCS.read_text())


def test_the_docs_have_a_command_for_each_download():
    assert {shlex.split(command)[3] for command in COMMANDS} == set(downloads.DOWNLOADS)
    assert len(COMMANDS) >= 12


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_of_the_docs_against_pandas(command, medsae, tmp_path, monkeypatch):
    words = shlex.split(command)
    monkeypatch.chdir(tmp_path)
    options = {"google": True} if "google" in words else {}
    truth = downloads.DOWNLOADS[words[3]](tmp_path / words[3], **options)
    cohort = Store(medsae.data).get(medsae.id(*words))
    with cohort.connect() as tables:
        image = tables.execute("SELECT * FROM image").df()
        label = tables.execute("SELECT path, label, value FROM label JOIN image USING (image)").df()
        assert not tables.execute("SELECT * FROM refused").fetchall()
        boxes = tables.execute("SELECT * FROM box").df()
        runs = tables.execute("SELECT path, runs FROM mask JOIN image USING (image)").fetchall()
        attributes = {name for (name,) in tables.execute("SELECT DISTINCT attribute FROM attribute").fetchall()}
        types = dict(tables.execute("SELECT attribute, type FROM attribute_name").fetchall())
        definitions = [d for (d,) in tables.execute("SELECT definition FROM label_name").fetchall()]
    wide = label.pivot(index="path", columns="label", values="value").astype("float64")
    root = Path(cohort.facts["root"])
    home = tmp_path / words[3]
    wide.index = image_paths(wide.index, root, home)
    expected = truth.labels[sorted(truth.labels.columns)].sort_index()
    pd.testing.assert_frame_equal(wide[sorted(wide.columns)].sort_index(), expected, check_names=False)
    image.index = image_paths(image["path"], root, home)
    assert image["patient"].to_dict() == truth.patient.to_dict()
    assert image["source"].fillna("").to_dict() == truth.split.to_dict()
    assert image["sha256"].notna().all()
    sides = image.groupby("patient")["split"].nunique()
    assert (sides == 1).all()
    assert len(boxes) == truth.boxes and (boxes[["width", "height"]] > 0).all(axis=None)
    assert set(truth.attributes) <= attributes and set(truth.attributes) <= set(types)
    found = {image_paths([path], root, home)[0]: run_lengths.decode(r, (64, 64)) for path, r in runs}
    assert found.keys() == truth.masks.keys()
    assert all((found[name] == mask).all() for name, mask in truth.masks.items())
    assert all(definitions) and (words[1] == "folders" or (cohort.facts["licence"] and cohort.facts["citation"]))


def image_paths(paths, root, home):
    """Paths below the folder of the download: what is stored is relative to the cohort's root, which may lie in it."""
    return [str((root / path).relative_to(home)) for path in paths]


@pytest.mark.parametrize("name", downloads.DOWNLOADS)
def test_a_folder_alone_is_recognised(name, medsae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    downloads.DOWNLOADS[name](tmp_path / name)
    status, _, err = medsae("ingest", "--root", name, "--no-pictures")
    assert status == 0, err
    named = next(shlex.split(command)[1] for command in COMMANDS if shlex.split(command)[3] == name)
    assert f"running: python -m medsae ingest {named} --root {name}" in err


def test_open_i_as_the_library_gives_it(medsae, tmp_path):
    root = tmp_path / "open-i"
    (root / "ecgen-radiology").mkdir(parents=True)
    for uid, majors in ((1, ["normal"]), (2, ["Cardiomegaly/borderline", "Catheters, Indwelling/right"]), (10, [])):
        terms = "".join(f"<major>{major}</major>" for major in majors)
        names = [f"CXR{uid}_1_IM-{uid:04}-{view}" for view in (1001, 2001)]
        images = "".join(f'<parentImage id="{name}"><caption>PA and lateral</caption></parentImage>' for name in names)
        (root / f"ecgen-radiology/{uid}.xml").write_text(
            f'<eCitation><uId id="CXR{uid}"/><Abstract><AbstractText Label="FINDINGS">Clear; no effusion.</AbstractText>'
            f"</Abstract><MeSH>{terms}<automatic>other</automatic></MeSH>{images}</eCitation>"
        )
        for i, name in enumerate(names):
            downloads.picture(root / f"NLMCXR_png/{name}.png", 10 * uid + i)
    status, out, err = medsae("ingest", "--root", root)
    assert status == 0 and "looks like Open-I" in err, err
    with Store(medsae.data).get(out.split()[-1]).connect() as tables:
        rows = tables.execute(
            "SELECT patient, label, value, count(*) FROM label JOIN image USING (image) GROUP BY ALL"
        ).fetchall()
    names = ("normal", "Cardiomegaly", "Catheters, Indwelling")
    values = {"CXR1": (1, 0, 0), "CXR2": (0, 1, 1), "CXR10": (None, None, None)}
    expected = {(p, name, value, 2) for p, row in values.items() for name, value in zip(names, row, strict=True)}
    assert set(rows) == expected


def test_two_data_sets_or_none_are_not_guessed(medsae, tmp_path):
    downloads.siim(tmp_path / "both")
    downloads.covid_chestxray(tmp_path / "both")
    status, _, err = medsae("ingest", "--root", tmp_path / "both")
    assert status == 2 and "2 data sets" in err and "ingest siim --root" in err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/my.csv").write_text("path,Edema\na.png,1\n")
    status, _, err = medsae("ingest", "--root", tmp_path / "mine")
    assert status == 2 and "ingest table --table" in err


def test_another_data_set_is_named_with_its_command(medsae, tmp_path):
    downloads.chexpert_plus(tmp_path / "plus")
    status, _, err = medsae("ingest", "chexpert", "--root", tmp_path / "plus")
    assert status == 2 and "ingest chexpert-plus --root" in err


def test_a_missing_batch_is_said_as_such(medsae, tmp_path):
    truth = downloads.chexpert_full(tmp_path / "full")
    gone = next((tmp_path / "full").glob("*batch 3*"))
    n = sum(name.startswith(gone.name) for name in truth.labels.index)
    gone.rename(tmp_path / "elsewhere")
    second = next((tmp_path / "full").glob("*batch 2*"))  # whichever folder is given
    status, _, err = medsae("ingest", "chexpert", "--root", second)
    assert status == 0 and f"{n} of 30 not found" in err and "no folder 'batch 3'" in err
    for folder in (tmp_path / "full").glob("*batch [24]*"):
        folder.rename(tmp_path / folder.name)
    status, _, err = medsae("ingest", "chexpert", "--root", tmp_path / "full")
    assert status == 2 and "--allow-missing" in err and "no folder 'batch 2', 'batch 3', 'batch 4'" in err
    assert medsae("ingest", "chexpert", "--root", tmp_path / "full", "--allow-missing")[0] == 0


def test_the_other_labeller_and_dropped_columns(medsae, tmp_path):
    downloads.mimic_cxr(tmp_path / "mimic")
    words = ("ingest", "mimic-cxr", "--root", tmp_path / "mimic", "--no-pictures", "--drop-columns", "StudyTime")
    cohort = Store(medsae.data).get(medsae.id(*words, "--labeller", "negbio"))
    with cohort.connect() as tables:
        found = {name for (name,) in tables.execute("SELECT DISTINCT attribute FROM attribute").fetchall()}
        edema = tables.execute("SELECT sum(value) FILTER (value = 1) FROM label WHERE label = 'Edema'").fetchone()
    assert "chexpert: Edema" in found and "negbio: Edema" not in found and "StudyTime" not in found
    about = pd.read_csv(tmp_path / "mimic/mimic-cxr-2.0.0-metadata.csv.gz")
    negbio = pd.read_csv(tmp_path / "mimic/mimic-cxr-2.0.0-negbio.csv.gz")
    joined = about.merge(negbio, on=["subject_id", "study_id"])
    assert edema == ((joined["Edema"] == 1).sum(),)
    status, _, err = medsae(*words[:-1], "Report")
    assert status == 2 and "--drop-columns names 'Report'" in err


def test_other_columns_are_confounders_of_scores(medsae, tmp_path):
    from medsae.steps.score import _kept_attributes

    downloads.chexpert_plus(tmp_path / "plus")
    cohort = Store(medsae.data).get(medsae.id("ingest", "chexpert-plus", "--root", tmp_path / "plus"))
    kept = _kept_attributes(cohort, pd.Series([3, 0]))
    assert {name: values.tolist() for name, values in kept.items()} == {"race": ["White", "Asian"]}


def test_no_finding_can_be_scored_under_strict(medsae, tmp_path):
    """Blank by definition is absent: the label that strict used to lose on CheXpert's own table is defined."""
    downloads.chexpert_small(tmp_path / "CheXpert-v1.0-small")
    cohort = Store(medsae.data).get(medsae.id("ingest", "chexpert", "--root", tmp_path / "CheXpert-v1.0-small"))
    with cohort.connect() as tables:
        rows = tables.execute(
            "SELECT value, count(*) FROM label WHERE label = 'No Finding' GROUP BY value ORDER BY value"
        ).fetchall()
    assert [value for value, _ in rows] == [0, 1]
    assert "its blank is absent" in cohort.facts["labels_defined"]


def test_a_cohort_is_what_was_found(medsae, tmp_path, monkeypatch):
    truth = downloads.nih(tmp_path / "NIH")
    (tmp_path / "NIH/images_002").rename(tmp_path / "later")
    monkeypatch.chdir(tmp_path)
    half = medsae.id("ingest", "nih", "--root", "NIH")
    (tmp_path / "later").rename(tmp_path / "NIH/images_002")
    status, out, err = medsae("ingest", "nih", "--root", "NIH")
    whole = out.split()[-1]
    assert status == 0 and whole != half
    n = sum(name.startswith("images_002") for name in truth.labels.index)
    assert f"since cohort {half} {n} pictures are new" in err
    monkeypatch.chdir(tmp_path / "NIH")  # from another folder, by another spelling: the same question
    assert medsae.id("ingest", "nih", "--root", "../NIH") == whole
    first = tmp_path / "NIH" / truth.labels.index[0]
    first.write_bytes(first.read_bytes() + b"\0")
    status, out, err = medsae("ingest", "nih", "--root", ".")
    assert out.split()[-1] not in (half, whole) and "1 pictures have changed" in err
    assert len(Store(medsae.data).list("cohort")) == 3


def test_one_table_and_one_relative_folder_are_two_studies(medsae, tmp_path, monkeypatch):
    (tmp_path / "shared.csv").write_text("filename,patient_id,Edema\na.png,1,1\nb.png,2,0\n")
    ids = []
    for study in ("one", "two"):
        for i, name in enumerate(("a.png", "b.png")):
            downloads.picture(tmp_path / study / "pics" / name, i + 10 * len(ids))
        monkeypatch.chdir(tmp_path / study)
        ids.append(medsae.id("ingest", "table", "--table", "../shared.csv", "--root", "pics"))
    assert ids[0] != ids[1]


def test_windows_paths_of_another_disk(medsae, tmp_path):
    """Found by their names; one that is missing is missing, not "outside"."""
    rows = "".join(f"C:\\Users\\doc\\pics\\a{i}.png,{i},{i % 2}\n" for i in range(5))
    (tmp_path / "t.csv").write_text("filename,patient,Edema\n" + rows)
    for i in range(4):
        downloads.picture(tmp_path / f"copies/a{i}.png", i)
    status, out, err = medsae("ingest", "table", "--table", tmp_path / "t.csv")
    assert status == 0 and "4 by name" in err and "1 of 5 not found" in err, err
    assert Store(medsae.data).get(out.split()[-1]).facts["n"] == 4


def test_a_source_of_another_package(medsae, tmp_path, monkeypatch):
    """A third party's source needs no change in a file of this one."""
    (tmp_path / "their_source.py").write_text(
        "from dataclasses import dataclass\n"
        "from medsae.cohorts.declared import Declaration, File, Published, offer, recogniser\n"
        "@dataclass(frozen=True, kw_only=True)\n"
        "class Ours(Published):\n"
        "    '''Our hospital.'''\n"
        "    flavour: str = 'plain'\n"
        "    source = 'our-hospital'\n"
        "    declaration = Declaration(tables=(File(names=('ours.csv',), needed=True),), path=('{file}.png',),\n"
        "        picture=('file',), labels=('Mass',), patient=('who',), defined='stated by us')\n"
        "recognise = recogniser(Ours)\n"
        "offer(Ours, label='Our hospital', help='Ours.', order=300, licence='ours', citation='us')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from medsae import plugins

    monkeypatch.setattr(plugins.sources, "_offers", dict(plugins.sources.all()))
    __import__("their_source")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours/ours.csv").write_text("file,who,Mass,ward\na,1,1,B\nb,2,0,C\n")
    for i, name in enumerate("ab"):
        downloads.picture(tmp_path / f"ours/{name}.png", i)
    status, out, err = medsae("ingest", "--root", tmp_path / "ours")
    assert status == 0 and "looks like Our hospital" in err, err
    assert Store(medsae.data).get(out.split()[-1]).facts["n"] == 2
    assert medsae("ingest", "no-such-source", "--root", tmp_path)[0] == 2


def test_siim_masks_need_the_size_of_the_picture(medsae, tmp_path):
    downloads.siim(tmp_path / "siim")
    status, out, err = medsae("ingest", "siim", "--root", tmp_path / "siim", "--no-pictures")
    assert status == 0 and "masks are left out" in err
    assert np.isclose(Store(medsae.data).get(out.split()[-1]).facts["n"], 20)
