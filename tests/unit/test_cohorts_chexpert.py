"""CheXpert as published: layouts, labels, views, and every mistake named with its row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medsae.cohorts import published
from medsae.cohorts.offered.chexpert import Chexpert
from medsae.cohorts.tabular import CohortTable
from medsae.config import CHEXPERT_LABELS
from medsae.progress import UserError

SHARED = Path(__file__).parents[2] / "../shared/cxr"
HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_LABELS)
# Labels: No Finding 1, Edema -1, Consolidation 0, Support Devices 1, the others blank.
ROWS = {
    "train": [
        "{}train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,1.0,,,,,-1.0,0.0,,,,,,,1.0",
        "{}train/patient00001/study1/view2_lateral.jpg,Female,68,Lateral,,1.0,,,,,,,,,,,,,",
        "{}train/patient00002/study2/view1_frontal.jpg,Unknown,0,Frontal,PA,,1,0,-1,,,,,,,,,,",
    ],
    "valid": ["{}valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,0.0,1.0,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0"],
}  # fmt: skip


def write(root: Path, prefix: str = "", pictures_in: Path | None = None, rows: dict[str, list[str]] = ROWS) -> Path:
    """CheXpert's tables in `root`, their paths beginning with `prefix`; pictures below `pictures_in`."""
    root.mkdir(parents=True, exist_ok=True)
    for name, lines in rows.items():
        lines = [line.format(prefix) for line in lines]
        (root / f"{name}.csv").write_text("\n".join([HEADER, *lines]) + "\n")
        for line in lines if pictures_in is not None else []:
            path = pictures_in / line.split(",")[0]  # type: ignore[operator]
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64).astype(np.uint8)).save(path)
    return root


def read(root: Path, **options: object) -> CohortTable:
    return published.read(Chexpert(root=root, **options))  # type: ignore[arg-type]


def test_columns_and_labels_by_hand(tmp_path: Path) -> None:
    table = read(write(tmp_path), views="all", pictures=False)
    images = table.images
    assert images["image"].tolist() == [0, 1, 2, 3]
    assert images["patient"].tolist() == ["patient00001", "patient00001", "patient00002", "patient64541"]
    assert images["study"].tolist() == ["study1", "study1", "study2", "study1"]
    assert images["source"].tolist() == ["train", "train", "train", "valid"]
    assert images["view"].tolist() == ["AP", "LATERAL", "PA", "AP"]
    assert images["frontal"].tolist() == [True, False, True, True]
    assert images["sex"].tolist() == ["F", "F", "", "M"]
    assert images["age"].isna().tolist() == [False, False, True, False]
    assert table.label_names == CHEXPERT_LABELS
    wide = table.labels.pivot(index="image", columns="label", values="value")
    assert len(table.labels) == 4 * 14
    first = wide.loc[0].dropna().to_dict()
    assert first == {"No Finding": 1, "Edema": -1, "Consolidation": 0, "Support Devices": 1}
    assert wide.loc[2].dropna().to_dict() == {
        "No Finding": 0,  # its blank is absent by CheXpert's definition
        "Enlarged Cardiomediastinum": 1,
        "Cardiomegaly": 0,
        "Lung Opacity": -1,
    }
    assert wide.loc[3].notna().all()
    assert set(table.inputs) == {"train.csv", "valid.csv"}


def test_views_and_numbering(tmp_path: Path) -> None:
    frontal = read(write(tmp_path), pictures=False)
    assert frontal.images["image"].tolist() == [0, 1, 2]
    assert frontal.images["frontal"].all()
    assert len(frontal.labels) == 3 * 14
    lateral = read(tmp_path, views="lateral", pictures=False)
    assert lateral.images["path"].tolist() == ["train/patient00001/study1/view2_lateral.jpg"]


@pytest.mark.parametrize("layout", ["as written", "first folder dropped", "parent"])
def test_pictures_are_found_in_each_layout(layout: str, tmp_path: Path) -> None:
    home = tmp_path / "CheXpert-v1.0-small"
    if layout == "as written":
        root = write(home, "CheXpert-v1.0-small/", pictures_in=home)
    elif layout == "parent":
        root = write(home, "CheXpert-v1.0-small/", pictures_in=tmp_path)
    else:
        write(home, "", pictures_in=tmp_path / "renamed")
        root = write(tmp_path / "renamed", "CheXpert-v1.0-small/")
    table = read(root)
    assert all((table.root / path).is_file() for path in table.images["path"])
    assert any("4 of 4" in line or "0 of 3 not found" in line for line in table.understood)


def test_one_picture_among_many_is_enough_to_decide(tmp_path: Path) -> None:
    lines = [f"train/patient{i:05}/study1/view1_frontal.jpg,Male,50,Frontal,AP" + "," * 14 for i in range(500)]
    write(tmp_path, rows={"train": lines})
    with pytest.raises(UserError, match="not one of the 500 pictures"):
        read(tmp_path)
    lonely = tmp_path / "train/patient00333/study1/view1_frontal.jpg"
    lonely.parent.mkdir(parents=True)
    Image.new("L", (40, 40)).save(lonely)
    with pytest.raises(UserError, match="only 1 of the 500 pictures"):
        read(tmp_path)
    table = read(tmp_path, allow_missing=True)
    assert table.root == tmp_path and len(table.files) == 1


def test_no_picture_found_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(write(tmp_path, "CheXpert-v1.0-small/"))
    assert str(tmp_path / "CheXpert-v1.0-small/train/patient00001") in str(error.value)
    assert "--no-pictures" in str(error.value)


def test_missing_root_and_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no train\.csv"):
        read(tmp_path)
    write(tmp_path / "CheXpert-v1.0-small")
    assert len(read(tmp_path, pictures=False).images) == 3  # the folder above is as good
    write(tmp_path / "CheXpert-v1.0")
    with pytest.raises(UserError, match=r"two folders(.|\n)*--root .*CheXpert-v1.0"):
        read(tmp_path)


def broken(tmp_path: Path, old: str, new: str) -> Path:
    """A root whose train.csv has one text replaced by another."""
    root = write(tmp_path)
    text = (root / "train.csv").read_text()
    assert old in text
    (root / "train.csv").write_text(text.replace(old, new, 1))
    return root


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("Path,Sex", "File,Sex", "no column 'Path'"),
        (",Edema,", ",Oedema,", "no column 'Edema'"),
        ("-1.0,0.0", "-1.0,perhaps", r"'Consolidation' has the value 'perhaps', which is not a number(.|\n)*line 2"),
        ("PA,,1,0,-1", "PA,,1,0,2", r"'Lung Opacity' has the value '2', which is none of(.|\n)*line 4"),
        ("PA,,1,0,-1", "PA,,1,0.5,-1", r"'Cardiomegaly' has the value '0.5'(.|\n)*line 4"),
        ("study1/view2_lateral", "study1/view1_frontal", r"2 rows are about one picture(.|\n)*line 2;(.|\n)*line 3"),
        ("train/patient00001/study1/view1", "train/p1/study1/view1", r"names no patient(.|\n)*line 2"),
        ("train/patient00001/study1/view1_frontal.jpg", "", r"is blank(.|\n)*line 2"),
    ],
)
def test_mistakes_are_named_with_file_and_line(old: str, new: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=what) as error:
        read(broken(tmp_path, old, new), pictures=False)
    assert "train.csv" in str(error.value) and error.value.do


def test_a_picture_in_train_and_valid(tmp_path: Path) -> None:
    rows = {"train": ROWS["train"], "valid": [ROWS["train"][2]]}
    with pytest.raises(UserError, match=r"2 rows(.|\n)*train.csv, line 4;(.|\n)*valid.csv, line 2"):
        read(write(tmp_path, rows=rows), pictures=False)


@pytest.mark.parametrize("text", ["", HEADER + "\n", "\x00\x01\x02"])
def test_empty_or_unreadable_table(text: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(text)
    with pytest.raises(UserError):
        read(tmp_path, pictures=False)


def test_a_table_that_is_not_utf_8(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "train.csv").write_bytes((root / "train.csv").read_bytes() + b"\xff\xfe\n")
    with pytest.raises(UserError, match=r"'ÿþ' names no patient(.|\n)*line 5"):
        read(root, pictures=False)


def test_real_subset() -> None:
    if not SHARED.is_dir():
        pytest.skip("the folder with real radiographs is not here")
    table = read(SHARED)
    assert len(table.images) == 1035 and table.images["patient"].nunique() == 714
    edema = table.labels[table.labels["label"] == "Edema"]["value"]
    assert int((edema == 1).sum()) == 97
    written = pd.read_csv(SHARED / "valid.csv")["Path"].tolist()
    assert table.images.loc[table.images["source"] == "valid", "path"].tolist() == written
    fracture = table.labels[table.labels["label"] == "Fracture"]["value"]
    assert fracture.isna().all()
