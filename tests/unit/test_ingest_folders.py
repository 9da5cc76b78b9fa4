"""Folders called after classes: what is a class, a split, a patient, a mask; and what is none."""

import pytest

from medsae.cohorts import class_folders
from medsae.store.artifacts import Store
from tests.fixtures import downloads


def fill(root, folders, names="{folder}-{i}.png", n=6):
    """n pictures in each folder; all differ."""
    seed = sum(1 for _ in root.rglob("*.*")) if root.exists() else 0
    for folder in folders:
        for i in range(n):
            downloads.picture(root / folder / names.format(folder=folder.replace("/", "-"), i=i), seed := seed + 1, 32)


def truth(medsae, out):
    """path -> (labels present, patient, split)."""
    with Store(medsae.data).get(out.split()[-1]).connect() as tables:
        rows = tables.execute(
            "SELECT path, patient, source, list(label ORDER BY label) FILTER (value = 1), count(*) FILTER (value IS NULL)"
            " FROM image LEFT JOIN label USING (image) GROUP BY ALL"
        ).fetchall()
    assert all(row[4] == 0 for row in rows), "a picture of one class is of no other: all is stated"
    return {path: (set(present or ()), patient, source) for path, patient, source, present, _ in rows}


def test_the_layouts_of_kaggle_say_what_was_left_out(medsae, tmp_path):
    downloads.kermany(tmp_path / "chest_xray")
    status, _, err = medsae("ingest", "--root", tmp_path / "chest_xray")
    assert status == 0 and "12 pictures are there twice" in err and "'NORMAL' means none of the others" in err, err
    assert "18 pictures have their patient from the beginning of their name" in err
    downloads.covid_radiography(tmp_path / "covid")
    status, _, err = medsae("ingest", "--root", tmp_path / "covid")
    assert status == 0 and "24 pictures in folders of masks are left out" in err, err


def test_dicom_without_a_suffix_is_found_by_its_bytes(medsae, tmp_path):
    for i in range(12):
        name = f"IM{i:04d}" if i % 2 else f"1.2.840.113619.2.{i}"
        file = tmp_path / "x" / ("Normal" if i < 6 else "Edema") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(downloads.dicom(downloads.grey(i, 32)))
    (tmp_path / "x/Edema/README").write_text("about these pictures")
    (tmp_path / "x/Edema/DICOMDIR").write_bytes(downloads.dicom(downloads.grey(99, 32)))
    for words in (["ingest", "--root", tmp_path / "x"], ["ingest", "folders", "--root", tmp_path / "x"]):
        status, out, err = medsae(*words)
        assert status == 0, err
        assert {path.split("/")[0] for path in truth(medsae, out)} == {"Normal", "Edema"}
        assert len(truth(medsae, out)) == 12


def dicoms(root, patients):
    """A DICOM of each patient (None: none is named), the first half Normal; their names."""
    from pydicom import dcmread

    names = []
    for i, patient in enumerate(patients):
        name = f"{'Normal' if i < len(patients) / 2 else 'Edema'}/{i}.dcm"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(downloads.dicom(downloads.grey(i, 32)))
        file = dcmread(root / name)
        if patient is not None:
            file.PatientID = patient
        file.ViewPosition, file.PatientSex, file.PatientAge = ("PA", "F", "058Y") if i % 2 else ("LL", "M", "006M")
        file.save_as(root / name)
        names.append(name)
    return names


@pytest.mark.parametrize("how", ["folders", "table"])
def test_whose_picture_it_is_stands_in_its_dicom_header(medsae, tmp_path, how):
    root, whose = tmp_path / "x", ["a", "b", "a", None, "anonymous", " b "] * 2
    names = dicoms(root, whose)
    words = ["ingest", "folders", "--root", root]
    if how == "table":
        (tmp_path / "t.csv").write_text("path,Edema\n" + "".join(f"{n},{n.count('Edema')}\n" for n in names))
        words = ["ingest", "table", "--table", tmp_path / "t.csv", "--root", root]
    status, out, err = medsae(*words)
    assert status == 0 and "8 pictures have their patient from their DICOM header (PatientID): 2 patients" in err, err
    with Store(medsae.data).get(out.split()[-1]).connect() as tables:
        found = dict(tables.execute("SELECT path, patient FROM image").fetchall())
        rows = tables.execute("SELECT path, view, sex, round(age, 1) FROM image").fetchall()
    assert {(int(path.split("/")[1][:-4]) % 2, *rest) for path, *rest in rows} == {
        (0, "LATERAL", "M", 0.5),
        (1, "PA", "F", 58),
    }
    assert "from the DICOM headers: view of 12 pictures, sex of 12 pictures, age of 12 pictures" in err
    expected = {name: (who or "").strip() if who not in (None, "anonymous") else name
                for name, who in zip(names, whose, strict=True)}  # fmt: skip
    assert found == expected


def test_one_name_in_all_dicom_headers_is_no_patient(medsae, tmp_path):
    names = dicoms(tmp_path / "x", ["study 7"] * 12)
    status, out, err = medsae("ingest", "folders", "--root", tmp_path / "x")
    assert status == 0 and "PatientID" not in err, err
    assert {who for _, who, _ in truth(medsae, out).values()} == set(names)


def test_a_list_with_too_few_cells_is_named(medsae, tmp_path):
    downloads.covidx(tmp_path / "x")
    with (tmp_path / "x/val.txt").open("a") as file:
        file.write("p-99 lonely.png\n")
    status, _, err = medsae("ingest", "covidx", "--root", tmp_path / "x")
    assert status == 2 and "line 7 has 2 cells" in err and "val.txt" in err, err


def test_folders_that_only_hold_data_are_no_level(tmp_path):
    parts = ("Infection Segmentation Data/Train", "Lung Segmentation Data/Train", "dataset/Val")
    said = class_folders._folders(
        [f"{part}/COVID-19/images" for part in parts] + ["dataset/Val/Normal/lung masks"], "x"
    )
    assert {one.finding for one in said.values()} == {"COVID-19", "Normal"}
    assert [one.mask for path, one in said.items() if "masks" in path] == [True]
    said = class_folders._folders(["COVID/images", "Normal/images", "COVID/COVID/images"], "COVID")
    assert {one.finding for one in said.values()} == {"COVID", "Normal"}, "a class may be called as the folder above it"


def test_a_patients_studies_are_one_patients():
    paths = {"Normal/patient1/study12": "patient1", "Normal/p10/p10000032/s50414267": "p10000032", "Other/study12": "study12",
             "Other/subject_7/study1": "subject_7", "Other": ""}  # fmt: skip
    said = class_folders._folders(paths, "x")
    assert {path: one.patient for path, one in said.items()} == paths
    assert all(one.finding == path.split("/")[0] for path, one in said.items())


def test_levels_patients_in_folders_and_pictures_of_no_class(medsae, tmp_path):
    root = tmp_path / "lungs"
    fill(
        root,
        [f"{name}/patient{i:03}" for name in ("Pneumonia/Viral", "Pneumonia/Bacterial", "Normal") for i in range(3)],
        n=2,
    )
    downloads.picture(root / "overview.png", 999)
    status, out, err = medsae("ingest", "folders", "--root", root)
    assert status == 0 and "1 pictures lie in no folder of a class: left out" in err, err
    found = truth(medsae, out)
    assert len(found) == 18 and "overview.png" not in found
    for path, (present, patient, _) in found.items():
        assert present == set(path.split("/")[:-2]) and patient == path.split("/")[-2]


@pytest.mark.parametrize(
    ("folders", "n", "said"),
    [
        (
            ["patient001/study1", "patient002/study1", "patient002/study2"],
            9,
            "no picture lies in a folder of its own class",
        ),
        (["AP", "PA", "lateral"], 9, "say nothing about what a picture shows"),
        (["train/NORMAL", "test/NORMAL"], 9, "all pictures are of one class ('NORMAL')"),
        (["train/images", "test/images"], 9, "no picture lies in a folder of its own class"),
        ([f"ward {letter}" for letter in "abcdefgh"], 2, "these are no classes"),
        ([f"ward {i}a" for i in range(41)], 5, "these are no classes"),
    ],
)
def test_what_is_no_class_is_refused_and_not_recognised(folders, n, said, medsae, tmp_path):
    fill(tmp_path / "x", folders, n=n)
    status, _, err = medsae("ingest", "folders", "--root", tmp_path / "x")
    assert status == 2 and said in err and "ingest table --table" in err
    assert class_folders.recognise(tmp_path / "x") is None


def test_a_folder_with_a_table_of_its_own_is_not_recognised(tmp_path):
    fill(tmp_path, ["NORMAL", "PNEUMONIA"])
    (tmp_path / "archive.zip").write_bytes(b"the download itself, left beside what was in it")
    assert class_folders.recognise(tmp_path) is not None
    (tmp_path / "labels.csv.gz").write_bytes(b"")
    assert class_folders.recognise(tmp_path) is None


def test_under_takes_a_part(medsae, tmp_path):
    fill(tmp_path / "x", ["train/NORMAL", "train/PNEUMONIA", "test/NORMAL", "test/PNEUMONIA"])
    status, out, err = medsae("ingest", "folders", "--root", tmp_path / "x", "--under", "test")
    assert status == 0 and {source for _, _, source in truth(medsae, out).values()} == {"test"}, err
    status, _, err = medsae("ingest", "folders", "--root", tmp_path / "x", "--under", "elsewhere")
    assert status == 2 and "no picture" in err


def test_a_class_that_has_grown_is_another_cohort(medsae, tmp_path):
    fill(tmp_path / "x", ["NORMAL", "PNEUMONIA"])
    words = ("ingest", "folders", "--root", tmp_path / "x", "--no-pictures")
    one = medsae.id(*words)
    assert medsae.id(*words) == one
    downloads.picture(tmp_path / "x/NORMAL/more.png", 777)
    assert medsae.id(*words) != one
