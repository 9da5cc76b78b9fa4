"""Where pictures are looked for: each way, what is ambiguous, what must never be taken."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsae.cohorts import locate, marks
from medsae.progress import UserError


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def find(root: Path, *written: str, under: str | None = None, allow_missing: bool = False) -> locate.Found:
    paths = pd.Series(written, dtype="object")
    ways = locate.usual_ways(root, paths)
    return locate.find(ways, root, root / "table.csv", under, allow_missing, "give --root")


@pytest.mark.parametrize(
    ("written", "there", "way"),
    [
        ("a/b.png", "a/b.png", "at the path written"),
        ("CheXpert/a/b.png", "a/b.png", "without its first folder"),
        ("a/b.dcm", "a/b.jpg", "with another suffix"),
        ("a/b", "a/b.dicom", "with another suffix"),
        ("a/b.dcm.png", "a/b.dcm", "with another suffix"),
        ("1.2.840.1", "1.2.840.1.dcm", "with another suffix"),
        ("A/B.PNG", "a/b.png", "in another case or Unicode form"),
        (unicodedata.normalize("NFD", "Tórax/í.png"), "Tórax/í.png", "in another case or Unicode form"),
        ("b.png", "x/y/b.png", "by name"),
        ("/data/old/x/b.png", "new/b.png", "by name"),
        ("c:/users/x/b.jpg", "new/b.png", "by name, with another suffix or form"),
    ],
)
def test_each_way(written: str, there: str, way: str, tmp_path: Path) -> None:
    make(tmp_path, there)
    found = find(tmp_path, written)
    assert (found.root / found.paths[0]) == tmp_path / there and found.there.all()
    assert found.size[0] == len(there.encode())
    assert way in found.told[0] and "0 of 1 not found" in found.told[0]


def test_the_way_of_each_picture_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.jpg", "x/c.png", "d.png")
    found = find(tmp_path, "a.png", "b.png", "c.png", "e.png")
    assert found.told[0].startswith(
        "pictures: 1 at the path written, 1 with another suffix (b.png is b.jpg), 1 by name"
    )
    assert "1 of 4 not found" in found.told[0] and "e.png" in found.told[1]
    assert found.paths[3] == "e.png" and found.there.tolist() == [True, True, True, False]


def test_a_picture_of_another_patient_is_never_taken(tmp_path: Path) -> None:
    make(tmp_path, "data/patient00001/study1/view1_frontal.jpg", "data/patient00002/study1/view2_frontal.jpg")
    found = find(
        tmp_path, "X/train/patient00001/study1/view1_frontal.jpg", "X/train/patient00003/study1/view2_frontal.jpg"
    )
    assert found.there.tolist() == [True, False]


def test_a_name_must_tell_one_row_from_all_others(tmp_path: Path) -> None:
    make(tmp_path, "data/one/image.png", "data/two/image.png")
    found = find(tmp_path, "old/one/image.png", "old/two/image.png", "old/three/image.png")
    assert found.there.tolist() == [True, True, False]
    assert found.paths.tolist()[:2] == ["data/one/image.png", "data/two/image.png"]


def test_two_that_fit_are_named_with_the_flag_that_chooses(tmp_path: Path) -> None:
    make(tmp_path, "images_001/a.png", "resized/a.png", "images_002/b.png")
    with pytest.raises(
        UserError, match=r"images_001/a\.png and resized/a\.png(.|\n)*--under 'images_\*' or --under 'resized'"
    ):
        find(tmp_path, "a.png", "b.png")
    assert find(tmp_path, "a.png", "b.png", under="images_*").paths.tolist() == ["images_001/a.png", "images_002/b.png"]
    assert find(tmp_path, "a.png", "b.png", under="resized").there.tolist() == [True, False]
    make(tmp_path, "x/c.jpg", "x/c.png")
    with pytest.raises(UserError, match=r"--under '\*\.jpg' or --under '\*\.png'"):
        find(tmp_path, "x/c.dcm")
    assert find(tmp_path, "x/c.dcm", under="*.png").paths[0] == "x/c.png"


def test_under_holds_for_exact_paths_too(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "small/a.png")
    assert find(tmp_path, "a.png", under="small").paths[0] == "small/a.png"


def test_fewer_than_half_stop_and_say_what_lies_there(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "images_002.tar.gz", "images_003.zip.part")
    with pytest.raises(UserError) as error:
        find(tmp_path, "a.png", "b.png", "c.png")
    text = str(error.value)
    assert "only 1 of the 3" in text and "missing: b.png, c.png" in text and str(tmp_path / "b.png") in text
    assert "images_002.tar.gz: an archive is not looked into" in text and "images_003.zip.part: a download" in text
    assert "--allow-missing" in text
    assert find(tmp_path, "a.png", "b.png", "c.png", allow_missing=True).there.sum() == 1
    with pytest.raises(UserError, match="not one of the 1 pictures was found"):
        find(tmp_path, "nothing.png", allow_missing=True)


def test_the_parent_folder_is_another_study(tmp_path: Path) -> None:
    make(tmp_path, "pics/a.png", "study/table.csv")
    with pytest.raises(UserError, match="not one"):
        find(tmp_path / "study", "pics/a.png")


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path / "disk", "b.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/loop").symlink_to(tmp_path / "root")
    assert find(tmp_path / "root", "b.png").paths[0] == "link/b.png"


def test_the_digest_sees_a_path_a_size_and_a_time(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png")
    first = find(tmp_path, "a.png", "b.png").digest()
    assert find(tmp_path, "b.png", "a.png").digest() == first  # the order of the rows is the table's matter
    assert find(tmp_path, "a.png").digest() != first
    (tmp_path / "a.png").touch()
    assert find(tmp_path, "a.png", "b.png").digest() != first


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_of_siim(seed: int) -> None:
    from medsae import runs as run_lengths
    from tests.fixtures.downloads import _rle

    rng = np.random.default_rng(seed)
    one, two = (rng.random((7, 5)) < share for share in (0.4, 0.2))
    runs = marks.runs_of([_rle(one), _rle(two)], 5, 7)
    assert (run_lengths.decode(runs, (7, 5)) == (one | two)).all()
    flat = two.T.ravel()
    starts = np.flatnonzero(np.diff(np.concatenate([[0], flat.astype(int), [0]])))
    absolute = " ".join(f"{a + 1} {b - a}" for a, b in starts.reshape(-1, 2))
    if len(starts) > 6:  # enough runs that relative starts would leave the picture
        assert (run_lengths.decode(marks.runs_of([absolute], 5, 7), (7, 5)) == two).all()
    with pytest.raises(ValueError, match="no pairs"):
        marks.runs_of(["1 2 3"], 5, 7)
    with pytest.raises(ValueError, match="leave a picture"):
        marks.runs_of(["90 2"], 5, 7)


def test_boxes_of_corners_and_extents() -> None:
    table = pd.DataFrame({"x_min": ["1", "9,5", None, "x"], "y_min": ["2", "9", None, "1"], "x_max": ["5", "3", None, "2"],
                          "y_max": ["8", "4", None, "2"]})  # fmt: skip
    columns = marks.box_columns(list(table.columns))
    assert columns == ("x_min", "y_min", "x_max", "y_max")
    label = reader = np.array(["m"] * 4, dtype=object)
    found, odd = marks.boxes(table, columns, np.arange(4), label, reader)
    assert found[["x", "y", "width", "height"]].to_numpy().tolist() == [[1, 2, 4, 6], [3, 4, 6.5, 5]]
    assert odd == 1  # the blank row marks nothing, "x" cannot be read
    assert marks.box_columns(["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"]) == ("Bbox [x", "y", "w", "h]")
    assert marks.box_columns(["width", "height"]) is None
