"""A picture path that leaves --root is refused unless it is allowed."""

import shutil
from pathlib import Path

import pytest

from medsae.cohorts.inside import refuse_outside
from medsae.progress import UserError


@pytest.mark.parametrize("path", ["../x.png", "a/../../x.png", "/etc/passwd", "../data2/x.png"])
def test_paths_that_leave(tmp_path, path):
    home = tmp_path / "data"
    with pytest.raises(UserError, match="outside --root"):
        refuse_outside(home, home, ["a/b.png", path])


@pytest.mark.parametrize("path", ["a/b.png", "a/../b.png", "..a/b.png", "a..b.png", "./b.png"])
def test_paths_that_stay(tmp_path, path):
    refuse_outside(tmp_path / "data", tmp_path / "data", [path])
    refuse_outside(tmp_path / "data", tmp_path / "data" / "batch 1", [path])


def test_a_linked_root_and_absolute_paths_within_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    refuse_outside(tmp_path / "link", tmp_path / "real", ["x.png", str(tmp_path / "real" / "x.png")])


@pytest.fixture
def sneaky(tmp_path, chexpert_root):
    """(table, root): a table in `root` that names a picture beside it."""
    pictures = sorted(chexpert_root.glob("train/*/*/*.jpg"))[:6]
    root = tmp_path / "set"
    root.mkdir()
    for i, path in enumerate(pictures):
        shutil.copy(path, root / f"{i}.jpg")
    shutil.copy(pictures[0], tmp_path / "private.jpg")
    lines = ["Path,Patient,Effusion", *(f"{i}.jpg,p{i},{i % 2}" for i in range(6)), "../private.jpg,p9,1"]
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root / "labels.csv", root


def test_ingest_refuses_and_the_flag_allows(medsae, sneaky):
    table, root = sneaky
    words = ["ingest", "table", "--table", table, "--root", root]
    status, _, err = medsae(*words)
    assert status == 2 and "outside --root" in err and "private" in err
    assert not list(Path(medsae.data).glob("artifacts/cohort/*"))
    medsae.id(*words, "--allow-outside")
