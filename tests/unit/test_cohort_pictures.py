"""Pictures that changed after ingest: no step reads them as if they were those that the cohort was made of."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsae import config as c
from medsae.naming.backends import PictureGone
from medsae.progress import Silent, UserError
from medsae.steps import cohort_pictures
from medsae.steps.embed import embed
from medsae.steps.ingest import ingest
from medsae.steps.naming_study import StudyOfScores
from medsae.steps.score import score
from medsae.store.artifacts import Artifact, Store
from medsae.store.reader import Reader
from medsae.ui import full_picture

N = 12


def picture(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def cohort(tmp_path: Path) -> tuple[Store, Artifact, Path]:
    root = tmp_path / "pictures"
    root.mkdir()
    for i in range(N):
        (root / f"{i:02}.png").write_bytes(picture(i))
    rows = "\n".join(f"{i:02}.png,p{i},{i % 2}" for i in range(N))
    (tmp_path / "table.csv").write_text(f"path,patient,Edema\n{rows}\n")
    store = Store(tmp_path / "data")
    made = ingest(c.IngestTable(table=tmp_path / "table.csv", root=root), store, Silent())
    return store, store.get(made["id"], "cohort"), root


def test_embed_refuses_with_the_count_and_the_command_and_goes_on_once_they_are_back(cohort) -> None:
    store, artifact, root = cohort
    changed, missing = (root / "03.png").read_bytes(), (root / "07.png").read_bytes()
    (root / "03.png").write_bytes(picture(99))
    (root / "07.png").unlink()
    with pytest.raises(UserError) as refused:
        embed(c.Embed(cohort=artifact.id, encoder="simclip", device="cpu"), store, Silent())
    said = str(refused.value)
    assert f"2 of {N} pictures are not those that the cohort was made of (1 changed, 1 missing)" in said
    assert "medsae ingest table --root" in said
    assert not store.list("embeddings")
    (root / "03.png").write_bytes(changed)
    (root / "07.png").write_bytes(missing)
    made = embed(c.Embed(cohort=artifact.id, encoder="simclip", device="cpu"), store, Silent())
    assert made["facts"]["n"] == N and made["facts"]["failed"] == 0


def test_a_changed_picture_is_not_decoded(cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    _, artifact, root = cohort
    pictures = cohort_pictures.Pictures(artifact)
    assert pictures[3].shape == (64, 64)
    (root / "03.png").write_bytes(picture(99))
    monkeypatch.setattr(cohort_pictures, "decode", lambda data: pytest.fail("was decoded"))
    with pytest.raises(UserError, match=rf"1 of {N} pictures(.|\n)*03.png: changed"):
        pictures[3]


def test_the_viewer_shows_the_thumbnail_and_says_why(cohort) -> None:
    _, artifact, root = cohort
    reader = Reader()
    assert full_picture.full_size(reader, artifact, 3)[1] == "full size"
    (root / "03.png").write_bytes(picture(99))
    shown, what = full_picture.full_size(reader, artifact, 3)
    assert (
        shown is not None and what == "thumbnail (the full picture: changed since the cohort was made (another sha256))"
    )


def test_naming_leaves_it_out_and_counts_it(cohort) -> None:
    store, artifact, root = cohort
    made = embed(c.Embed(cohort=artifact.id, encoder="simclip", device="cpu"), store, Silent())
    scores = score(c.Score(embeddings=made["id"], representation="raw", images="all"), store, Silent())
    with closing(StudyOfScores(store, store.get(scores["id"], "scores"), seed=0)) as study:
        assert study.jpeg(4)[:2] == b"\xff\xd8"
        (root / "03.png").write_bytes(picture(99))
        (root / "05.png").unlink()
        for image in (3, 5):
            with pytest.raises(PictureGone):
                study.jpeg(image)
        assert study.unlike == {3, 5}
