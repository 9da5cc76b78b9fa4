"""Tables in the layouts of published cohorts, guessed columns, and mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsae.cohorts import tabular
from medsae.cohorts.findings import parse_findings, votes
from medsae.cohorts.table import read_table
from medsae.cohorts.tabular import MISSING, CohortTable
from medsae.config import IngestTable
from medsae.progress import UserError


def read(path: Path, text: str | None = None, *, pictures: bool = False, **options: object) -> CohortTable:
    if text is not None:
        path.write_text(text)
    return read_table(IngestTable(table=path, pictures=pictures, **{"allow_missing": True} | options))  # type: ignore[arg-type]


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"only looked for, not opened")


def values(table: CohortTable) -> pd.DataFrame:
    return table.labels.pivot(index="image", columns="label", values="value")


NIH = """Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,OriginalImage[Width,Height]
00000001_000.png,Cardiomegaly,0,1,058Y,M,PA,2682,2749
00000001_001.png,Cardiomegaly|Emphysema,1,1,58,M,AP,2894,2729
00000002_000.png,No Finding,0,2,411,F,PA,2500,2048
00000003_000.png,,0,3,006M,F,LL,2500,2048
"""


def test_nih(tmp_path: Path) -> None:
    table = read(tmp_path / "Data_Entry.csv", NIH)
    assert table.label_names == ("No Finding", "Cardiomegaly", "Emphysema")
    wide = values(table)
    assert wide["Cardiomegaly"].tolist() == [1, 1, 0, pd.NA]
    assert wide["No Finding"].tolist() == [0, 0, 1, pd.NA]
    assert table.images["patient"].tolist() == ["1", "1", "2", "3"]
    assert table.images["age"].tolist()[:2] == [58, 58] and np.isnan(table.images["age"][2])
    assert table.images["age"][3] == 0.5
    assert table.images["view"].tolist() == ["PA", "AP", "PA", "LATERAL"]
    text = "\n".join(table.understood)
    assert "finding = 'Finding Labels' (guessed)" in text and "1 ages beyond" in text


def test_nih_pictures_in_numbered_folders(tmp_path: Path) -> None:
    for i, name in enumerate(("00000001_000.png", "00000001_001.png", "00000002_000.png")):
        picture(tmp_path / f"images_{i:03}" / "images" / name)
    table = read(tmp_path / "Data_Entry.csv", NIH, pictures=True)
    assert table.images["path"][1] == "images_001/images/00000001_001.png"
    assert table.images["path"][3] == "00000003_000.png"  # missing: refused later, when it is opened
    picture(tmp_path / "copy" / "00000001_000.png")
    with pytest.raises(UserError, match=r"two pictures fit 00000001_000\.png: (.|\n)*--under 'copy'"):
        read(tmp_path / "Data_Entry.csv", pictures=True)


def test_mimic(tmp_path: Path) -> None:
    csv = """dicom_id,subject_id,study_id,split,ViewPosition,Rows,No Finding,Edema,Pleural Effusion
02aa804e,10000032,50414267,train,PA,3056,1.0,,
174413ec,10000032,50414267,validate,LATERAL,3056,1.0,,-1.0
2a2277a9,10000764,53911762,test,LL,3056,,0.0,1.0
"""
    picture(tmp_path / "files/p10/p10000032/s50414267/02aa804e.jpg")
    table = read(tmp_path / "joined.csv", csv, pictures=True)
    assert table.images["path"][0] == "files/p10/p10000032/s50414267/02aa804e.jpg"
    assert table.images["source"].tolist() == ["train", "valid", "test"]
    assert table.images["patient"].tolist() == ["10000032", "10000032", "10000764"]
    assert table.label_names == ("No Finding", "Edema", "Pleural Effusion")
    assert values(table)["Pleural Effusion"].tolist() == [pd.NA, -1, 1]
    frontal = read(tmp_path / "joined.csv", views="frontal")
    assert len(frontal.images) == 1 and frontal.images["path"][0].startswith("files/p10/")


def test_padchest(tmp_path: Path) -> None:
    csv = """,ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Labels
0,a.png,0,20140915,S1,P1,1930.0,F,PA,"['pleural effusion', ' cardiomegaly']"
1,b.png,17,20150801,S2,P2,1950.0,M,L,['normal']
2,c.png,17,20150801,S3,P3,,M,AP_horizontal,
"""
    picture(tmp_path / "17" / "b.png")
    table = read(tmp_path / "padchest.csv", csv, pictures=True)
    assert table.images["path"].tolist() == ["0/a.png", "17/b.png", "17/c.png"]
    assert table.label_names == ("normal", "cardiomegaly", "pleural effusion")
    assert values(table)["cardiomegaly"].tolist() == [1, 0, pd.NA]
    assert table.images["age"].tolist()[:2] == [84, 65] and np.isnan(table.images["age"][2])
    assert table.images["frontal"].tolist() == [True, False, True]


VINDR = """image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max
aaa,Cardiomegaly,3,R1,1,1,9,9
aaa,Cardiomegaly,3,R1,2,2,8,8
aaa,Cardiomegaly,3,R2,1,1,9,9
aaa,Nodule/Mass,8,R3,1,1,9,9
bbb,No finding,14,R1,,,,
bbb,No finding,14,R2,,,,
ccc,Nodule/Mass,8,R1,1,1,9,9
ccc,No finding,14,R2,,,,
"""


def test_vindr_regions_become_votes(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "bbb.dicom")
    table = read(tmp_path / "train.csv", VINDR, pictures=True)
    assert table.images["path"].tolist() == ["aaa", "train/bbb.dicom", "ccc"]
    wide = values(table)
    assert wide["Cardiomegaly"].tolist() == [1, 0, 0]
    assert wide["Nodule/Mass"].tolist() == [0, 0, -1]  # one of three; none of two; one of two
    assert wide["No finding"].tolist() == [0, 1, -1]
    assert table.label_names[0] == "No finding"


def test_vindr_wide_with_several_readers(tmp_path: Path) -> None:
    csv = "image_id,rad_ID,Edema,Rib fracture\na,R1,1,0\na,R2,1,0\na,R3,0,0\nb,R1,0,1\n"
    table = read(tmp_path / "labels.csv", csv)
    assert values(table)["Edema"].tolist() == [1, 0]
    assert values(table)["Rib fracture"].tolist() == [0, 1]
    with pytest.raises(UserError, match="one picture"):
        read(tmp_path / "labels.csv", csv + "b,R1,1,1\n")


def test_votes_with_unknowns() -> None:
    rows = np.array([[1, MISSING], [0, MISSING], [MISSING, -1]], dtype=np.int8)
    assert votes(rows, np.array([0, 0, 0]), np.array([0, 1, 2])).tolist() == [[-1, -1]]
    assert votes(rows, np.array([0, 1, 2]), np.array([0, 0, 0])).tolist() == rows.tolist()


def test_vindr_votes_do_not_depend_on_row_order(tmp_path: Path) -> None:
    header, *rows = VINDR.strip().split("\n")
    forward = values(read(tmp_path / "a.csv", VINDR))
    table = read(tmp_path / "b.csv", "\n".join([header, *reversed(rows)]))
    assert table.images["path"].tolist() == ["ccc", "bbb", "aaa"]
    assert values(table).loc[[2, 1, 0]].to_numpy().tolist() == forward.to_numpy().tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A|B", ["A", "B"]), ("A; B", ["A", "B"]), ("['a', \"b's\", ' c']", ["a", "b's", "c"]), ("", []), ("[]", []),
     ("A|A| ", ["A"]), ("Pleural effusion, left", ["Pleural effusion, left"]), ("[A, B c]", ["A", "B c"]),
     ('["A", "B"]', ["A", "B"]), ('["Kerley\'s lines", \'A\']', ["Kerley's lines", "A"]), ("{'B', 'A'}", ["A", "B"]),
     ("('A',)", ["A"]), ("['A' 'B']", ["A", "B"]), ("['A'\n 'B']", ["A", "B"]), ("['A', nan]", ["A"]),
     ("('A', 'B')", ["A", "B"]), ("['A', None]", ["A"]), ("(A) mass", ["(A) mass"])],
)  # fmt: skip
def test_parse_findings(text: str, expected: list[str]) -> None:
    assert parse_findings(text) == expected


def test_flags_win_over_guesses(tmp_path: Path) -> None:
    csv = "who,where,Path,Edema,score,Mass\n01,x/a.png,zzz,1,0,true\n02,x/b.png,zzz,,1,false\n"
    table = read(tmp_path / "t.csv", csv, path_column="where", patient_column="who", label_columns="Mass,Edema")
    assert table.images["path"].tolist() == ["x/a.png", "x/b.png"]
    assert table.images["patient"].tolist() == ["01", "02"]
    assert table.label_names == ("Mass", "Edema")
    assert values(table)["Mass"].tolist() == [1, 0] and values(table)["Edema"].tolist() == [1, pd.NA]
    assert "path = 'where'," in "\n".join(table.understood)


def test_findings_can_be_chosen(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", NIH, label_columns="Emphysema")
    assert table.label_names == ("Emphysema",)
    assert values(table)["Emphysema"].tolist() == [0, 1, 0, pd.NA]
    with pytest.raises(UserError, match="'Oedema', which no row has"):
        read(tmp_path / "t.csv", label_columns="Oedema")


def test_many_findings_are_cut_and_said(tmp_path: Path) -> None:
    rows = [f"p{i}.png,{'|'.join(f'f{j:02}' for j in range(i, 80))}" for i in range(80)]
    table = read(tmp_path / "t.csv", "path,findings\n" + "\n".join(rows))
    assert len(table.label_names) == 64 and "f79" in table.label_names and "f00" not in table.label_names
    assert any("64 most frequent of 80" in line for line in table.understood)


def test_parquet_equals_csv(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "PatientID": [7.0, 8.0, 9.0],
            "Edema": pd.array([1, None, -1], dtype="Int8"),
            "Mass": [True, False, True],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.astype({"PatientID": int}).to_csv(tmp_path / "t.csv", index=False)
    one, other = read(tmp_path / "t.parquet"), read(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(one.images, other.images)
    assert values(one).equals(values(other))
    assert one.images["patient"].tolist() == ["7", "8", "9"]


def test_findings_under_one_spelling(tmp_path: Path) -> None:
    """Letter case, blanks and underscores make no other finding; tabs and new lines part them."""
    rows = ["Pleural_Effusion", "pleural effusion\tEdema", '"Edema\nMass"', "EDEMA", "[]", "Pleural_Effusion"]
    csv = "path,findings\n" + "".join(f"{i}.png,{row}\n" for i, row in enumerate(rows))
    table = read(tmp_path / "t.csv", csv)
    assert table.label_names == ("Edema", "Mass", "Pleural_Effusion")
    assert values(table)["Pleural_Effusion"].tolist() == [1, 1, 0, 0, pd.NA, 1]
    assert values(table)["Edema"].tolist() == [0, 1, 1, 1, pd.NA, 0]
    said = "\n".join(table.understood)
    assert "'pleural effusion' counted as 'Pleural_Effusion'" in said and "1 rows hold an empty list" in said


@pytest.mark.parametrize("name", ["class", "diagnosis", "labels", "finding"])
def test_a_column_of_ones_and_zeros_is_a_label_whatever_its_name(name: str, tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", f"path,{name}\na.png,1\nb.png,0\nc.png,\n")
    assert table.label_names == (name,) and values(table)[name].tolist() == [1, 0, pd.NA]
    with pytest.raises(UserError, match=f"'{name}' is not taken as a label(.|\n)*'2'"):
        read(tmp_path / "t.csv", f"path,{name}\na.png,1\nb.png,0\nc.png,2\n")


def test_a_column_called_label_holds_classes_where_nothing_else_is_a_label(tmp_path: Path) -> None:
    table = read(tmp_path / "t.csv", "image_id,Label\na,NORMAL\nb,PNEUMONIA\nc,NORMAL\n")
    assert table.label_names == ("NORMAL", "PNEUMONIA") and values(table)["NORMAL"].tolist() == [1, 0, 1]
    assert any("'Label' is taken for the findings" in line for line in table.understood)
    table = read(tmp_path / "t.csv", "image_id,Label,Edema\na,ward 3,1\nb,ward 4,0\n")
    assert table.label_names == ("Edema",)


def test_columns_about_the_picture_are_no_findings(tmp_path: Path) -> None:
    """Flags that people keep beside the labels: is it of the validation set, frontal, of a man, with a mask?"""
    flags = "is_valid,frontal,Portable,has_mask,sex_M,view_PA,split,total,isTrain"
    rows = [f"{i}.png,{i % 2}" + f",{(i // 2) % 2}" * 9 for i in range(4)]
    table = read(tmp_path / "t.csv", f"path,Edema,{flags}\n" + "\n".join(rows) + "\n")
    assert table.label_names == ("Edema",) and set(table.attributes.columns) == set(flags.split(","))


def test_a_column_of_names_of_files_is_the_path_whatever_its_name(tmp_path: Path) -> None:
    """By its values (Shenzhen's study_id), or because pictures are called so (RANZCR's StudyInstanceUID)."""
    table = read(tmp_path / "t.csv", "study_id,Edema\nCHN_1_0.png,1\nCHN_2_0.png,0\n")
    assert table.images["path"].tolist() == ["CHN_1_0.png", "CHN_2_0.png"]
    csv = "StudyInstanceUID,Edema,PatientID\n1.2.840.1,1,p1\n1.2.840.2,0,p1\n"
    for name in ("1.2.840.1", "1.2.840.2"):
        picture(tmp_path / "train" / f"{name}.jpg")
    table = read(tmp_path / "t.csv", csv, pictures=True)
    assert table.images["path"].tolist() == ["train/1.2.840.1.jpg", "train/1.2.840.2.jpg"]
    assert table.images["patient"].tolist() == ["p1", "p1"]


@pytest.mark.parametrize(
    ("written", "lies"),
    [
        ("my%20img/a%28{}%29.png", "my img/a({}).png"),
        ("x/my%20img/a{}.png", "my img/a{}.jpg"),
        ("https://host.org/set/img/a{}.png?dl=1#top", "img/a{}.png"),
        ("s3://bucket/set/img/a{}.png", "img/a{}.png"),
        ("file:///home/who/img/a{}.png", "img/a{}.png"),
        ("100%/a{}.png", "100%/a{}.png"),
        ("{}.0", "{}.png"),
    ],
)
def test_paths_as_other_programs_write_them(written: str, lies: str, tmp_path: Path) -> None:
    for i in (1, 2):
        picture(tmp_path / lies.format(i))
    csv = "image_id,Edema\n" + "".join(f"{written.format(i)},{i - 1}\n" for i in (1, 2))
    table = read(tmp_path / "t.csv", csv, pictures=True)
    assert table.images["path"].tolist() == [lies.format(1), lies.format(2)]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_byte_order_mark(separator: str, tmp_path: Path) -> None:
    csv = "\ufeff" + "path,Edema\na.png,1\nb.png,0\n".replace(",", separator)
    assert values(read(tmp_path / "t.csv", csv))["Edema"].tolist() == [1, 0]


def test_patients_without_a_column(tmp_path: Path) -> None:
    each = read(tmp_path / "t.csv", "path,Edema\na.png,1\nb.png,0\n")
    assert each.images["patient"].tolist() == ["a.png", "b.png"]
    assert any("patient of its own" in line for line in each.understood)
    folders = read(tmp_path / "t.csv", "path,Edema\npatient1/a.png,1\npatient1/b.png,0\n")
    assert folders.images["patient"].tolist() == ["patient1", "patient1"]
    mimic = "path,Edema\nfiles/p10/p10000032/s50414267/a.png,1\nfiles/p10/p10000032/s53189527/b.png,0\n"
    assert read(tmp_path / "t.csv", mimic).images["patient"].tolist() == ["p10000032", "p10000032"]


@pytest.mark.parametrize(
    ("csv", "options", "what"),
    [
        ("a,b\n1,2\n", {}, "no column looks like the picture's path"),
        ("path,note\na.png,hello\n", {}, "no column looks like a label"),
        ("path,Edema\na.png,1\na.png,0\n", {}, r"2 rows are about one picture(.|\n)*line 2;(.|\n)*line 3"),
        ("path,Edema\na.png,1\n,0\n", {}, r"path(.|\n)*blank(.|\n)*line 3"),
        ("path,patient,Edema\na.png,p,1\nb.png,,0\n", {}, r"'patient' is blank(.|\n)*line 3"),
        ("path,Edema\na.png,1\nb.png,maybe\n", {}, r"'Edema' has the value 'maybe'(.|\n)*line 3"),
        ("path,grade\na.png,1\nb.png,7\n", {"label_columns": "grade"}, r"'grade' has the value '7'(.|\n)*line 3"),
        ("path,Edema\na.png,1\n", {"label_columns": "Oedema"}, "'Oedema', which the table lacks"),
        ("path,Edema\na.png,1\n", {"view_column": "View"}, r"--view-column 'View' is not a column"),
        ("path,Edema\na.png,1\nb.png,0\n", {"views": "frontal"}, "known to be a frontal picture"),
        ("path,Edema,Edema \na.png,1,0\n", {}, "two columns are called 'Edema'"),
        ("path,Edema\na.png,1\nb.png,0\n", {"pictures": True}, "not one of the 2 pictures was found"),
        ("path,Edema\na.png,1\nb.png,0\n", {"root": Path("nowhere")}, "folder of the pictures does not exist"),
        ("path,Labels\na.png,\n", {"finding_column": "Labels"}, "blank in every row"),
        ("", {}, "the table is empty"),
        ("path,Edema\n", {}, "no rows"),
    ],
)
def test_mistakes(csv: str, options: dict[str, object], what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=what) as error:
        read(tmp_path / "t.csv", csv, **options)
    assert error.value.where and error.value.do


def test_missing_table_and_damaged_parquet(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "none.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "t.parquet", "PAR1 but not really")


@pytest.mark.parametrize(("words", "sexes"), [
    (["Female", "male", "F", " m ", ""], "FMFM-"), (["w", "m", "divers"], "FM-"), (["weiblich", "Männlich"], "FM"),
    (["H", "M", "M"], "MFF"), (["V", "M"], "MF"), (["F", "H"], "FM"), (["mujer", "hombre", "Mulher", "homem"], "FMFM"),
    (["Missing", "M", "F", "Fehlt", "1"], "-MF--"), (["D", "H"], "FM"),
])  # fmt: skip
def test_a_sex_is_a_word_and_not_its_first_letter(words, sexes):
    found = tabular.sexes(pd.Series(words, dtype="str").replace("", None), len(words))
    assert [one or "-" for one in found] == list(sexes)


@pytest.mark.parametrize(("words", "values"), [
    (["ja", "Nein", "fraglich", "k.A."], [1, 0, -1, None]), (["Sí", "no", "dudoso", "desconocido"], [1, 0, -1, None]),
    (["oui", "non", "douteux", "inconnu"], [1, 0, -1, None]), (["Present", "not present", "possible", "missing"], [1, 0, -1, None]),
])  # fmt: skip
def test_yes_and_no_in_other_words(words, values):
    found, odd = tabular.values_of(pd.Series(words))
    assert [None if v == MISSING else int(v) for v in found] == values and not len(odd)


def test_a_german_list_with_its_own_word_for_normal(tmp_path):
    rows = "".join(f"{i}.png;{i // 2};w;{40 + i},5;{('Pleuraerguss, Stauung', 'o.B.', 'Stauung', 'Pleuraerguss')[i % 4]}\n"
                   for i in range(12))  # fmt: skip
    (tmp_path / "t.csv").write_bytes(("Datei;Pat-Nr.;Geschlecht;Alter;Befund\n" + rows).encode("cp1252"))
    for i in range(12):
        (tmp_path / f"{i}.png").touch()
    found = read_table(IngestTable(table=tmp_path / "t.csv", root=tmp_path))
    present = found.labels[found.labels["value"] == 1].groupby("image")["label"].agg(set)
    assert set(found.label_names) >= {"Pleuraerguss", "Stauung"}
    assert present[0] == {"Pleuraerguss", "Stauung"} and present[2] == {"Stauung"}
    assert set(found.images["sex"]) == {"F"} and found.images["age"].tolist()[:2] == [40.5, 41.5]
    assert found.images["patient"].nunique() == 6
    normal = found.labels[(found.labels["image"] == 1) & found.labels["label"].isin(["Pleuraerguss", "Stauung"])]
    assert (normal["value"] == 0).all()
