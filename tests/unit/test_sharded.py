"""`--shard i/N` and `merge`: the same as one machine to the bit, and what does not belong together is named."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from medsae import seals, shards
from medsae.naming import run as naming_run
from medsae.progress import Silent, UserError
from medsae.scoring import activity, confounded, draws
from medsae.shards import Part
from medsae.steps import embed as embed_step
from medsae.steps import ingest as ingest_step
from medsae.steps import naming as naming_step
from medsae.store.artifacts import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
import naming_world as nw  # pyright: ignore[reportMissingImports]
from alike import same, same_names  # pyright: ignore[reportMissingImports]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Pieces so small that a handful of pictures has several."""
    monkeypatch.setattr(ingest_step, "_SHARD", 9)
    monkeypatch.setattr(embed_step, "SHARD", 7)
    monkeypatch.setattr(draws, "GROUP", 3)
    monkeypatch.setattr(activity, "ROWS", 16)
    monkeypatch.setattr(confounded, "NEURONS", 50)
    monkeypatch.setattr(naming_run, "PORTION", 4)
    monkeypatch.setattr(naming_step, "PORTION", 4)


@pytest.fixture(scope="module")
def root(tmp_path_factory, write_chexpert):
    return write_chexpert(tmp_path_factory.mktemp("sharded"), patients=40)


def by_shards(medsae, of: int, *words, order=None) -> str:
    """The id of what N commands make and one merges."""
    for i in order or range(1, of + 1):
        assert medsae(*words, "--shard", f"{i}/{of}")[0] == 0
    return medsae.id("merge", *words)


@pytest.mark.long
def test_every_step_by_shards_is_what_one_machine_makes(root, medsae_at, tmp_path, monkeypatch):
    alone, many = medsae_at(tmp_path / "alone"), medsae_at(tmp_path / "many")

    def both(*words, of=3):
        id = alone.id(*words)
        choices = alone.data / "cache" / "encoders" / "choices.json"
        if choices.exists():  # what is fastest here is chosen by the clock: once, as on one shared folder
            (many.data / "cache" / "encoders").mkdir(parents=True, exist_ok=True)
            shutil.copy(choices, many.data / "cache" / "encoders")
        assert by_shards(many, of, *words, order=range(of, 0, -1)) == id
        same(Store(alone.data).get(id), Store(many.data).get(id))
        return id

    cohort = both("ingest", "chexpert", "--root", root, "--evaluation-share", 0.4)
    encode = ("embed", "--cohort", cohort, "--encoder", "simclip")
    embeddings = both(*encode)
    both(*encode, "--pool", "tokens", "--tokens-per-image", 5, of=2)
    few = ("--draws", 11, "--bootstraps", 7, "--images", "all", "--no-maps")
    raw = both("score", "--embeddings", embeddings, "--representation", "raw", *few)
    monkeypatch.setattr(draws, "GROUP", 100)  # a sweep scores by the usual 200 draws
    swept = (
        "train",
        "--embeddings",
        embeddings,
        "--epochs",
        2,
        "--expansion",
        1,
        "--images",
        "all",
        "--sweep",
        "k=2,4",
    )
    best = both(*swept, of=2)
    assert len(Store(many.data).list("sae")) == 2
    both("score", "--sae", best, *few, of=2)
    shutil.rmtree(many.data)
    shutil.copytree(alone.data, many.data)  # a run of names is about these very scores
    name = ("name", "--scores", raw, "--neurons", ",".join(map(str, range(12))), "--pictures", 5)
    assert alone(*name)[0] in (0, 2, 3)
    refusal = many(*name, "--shard", "2/2")[0], many("merge", *name)
    assert refusal[0] in (0, 2, 3) and refusal[1][0] == 2 and "of shard 1/2" in refusal[1][2]
    assert many(*name, "--shard", "1/2")[0] in (0, 2, 3)
    assert many("merge", *name)[0] in (0, 2, 3)
    kept = same_names(alone.data, many.data, raw)
    assert len(kept) == 12 and kept["concept"].notna().any()


@pytest.fixture
def begun(root, medsae):
    """A cohort, and the first of two shards of its embeddings."""
    cohort = medsae.id("ingest", "chexpert", "--root", root)
    words = ("embed", "--cohort", cohort, "--encoder", "simclip")
    status, out, _ = medsae(*words, "--shard", "1/2", "--json")
    assert status == 0 and json.loads(out)["published"] is False
    return medsae, words, next((medsae.data / "artifacts/embeddings").glob(".building-*/.shards"))


def refused(medsae, *words) -> str:
    status, out, err = medsae(*words)
    assert status == 2 and not out and "Traceback" not in err
    assert not [p for p in (medsae.data / "artifacts/embeddings").iterdir() if not p.name.startswith(".")]
    return " ".join(err.split())


def test_a_missing_shard_is_named_with_its_command(begun):
    medsae, words, _ = begun
    said = refused(medsae, "merge", *words)
    assert "of shard 2/2" in said and f"{' '.join(words[1:])} --shard 2/2" in said and str(medsae.data) in said
    assert "shard 2/2 has left nothing here" in said and "not shared" in said
    medsae.id(*words, "--shard", "2/2")
    assert medsae.id("merge", *words)


def test_a_damaged_shard_is_named_and_made_again(begun):
    medsae, words, folder = begun
    medsae.id(*words, "--shard", "2/2")
    piece = folder / "00001.npy"
    piece.write_bytes(piece.read_bytes()[:-1] + b"x")
    said = refused(medsae, "merge", *words)
    assert "1 pieces are not finished: of shard 2/2 (1 damaged)" in said and "left nothing" not in said
    medsae.id(*words, "--shard", "2/2")
    assert medsae.id("merge", *words)


def test_another_number_of_shards_loses_nothing(begun):
    medsae, words, folder = begun
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npy")}
    status, _, err = medsae(*words, "--shard", "3/3")
    assert status == 0 and "shards of 2 were begun here, this is 3 of 3" in err
    assert before.items() <= {p.name: p.stat().st_mtime_ns for p in folder.glob("*.npy")}.items()
    for i in (1, 2):
        medsae.id(*words, "--shard", f"{i}/3")
    assert medsae.id("merge", *words)


def test_shards_of_another_command_are_named(begun):
    medsae, words, _ = begun
    medsae.id(*words, "--precision", "fp32", "--shard", "2/2")
    said = refused(medsae, "merge", *words)
    assert "shard 2/2 of another command is there" in said and "--precision fp32 --shard 2/2" in said


def test_other_weights_are_named(begun, tmp_path):
    medsae, words, folder = begun
    other = folder.parent.parent / ".building-simclip-other" / ".shards"
    shutil.copytree(folder, other)
    note = seals.read(other / "parts/1-of-2.json")
    (other / "parts/1-of-2.json").unlink()
    (other / "parts/2-of-2.json").write_text(seals.text({**note, "index": 2, "inputs": {"weights": "other"}}))
    assert "shard 2/2 of other weights or files is there" in refused(medsae, "merge", *words)


def test_names_of_another_command_are_named(tmp_path, medsae_at):
    world = nw.build(tmp_path, images=260, neurons=4, share=0.5)
    medsae, words = medsae_at(tmp_path), ("name", "--scores", world.scores, "--pictures", 5)
    assert medsae(*words, "--neurons", "0,1", "--shard", "1/2")[0] in (0, 2, 3)
    said = refused_anywhere(medsae, "merge", *words, "--neurons", "0,2")
    assert "no shard of this command has begun here; shard 1/2 of another command is there" in said
    assert "--neurons 0,1" in said and "--shard 1/2" in said
    notes = next((medsae.data / "cache/shards").glob("name-*/parts/1-of-2.json"))
    note = seals.read(notes)
    notes.write_text(seals.text({**note, "config": {**note["config"], "scores": "others"}}))
    assert "of another command" not in refused_anywhere(medsae, "merge", *words, "--neurons", "0,2"), "of other scores"


@pytest.mark.parametrize("changed", [{"versions": {"torch": "1.0"}}, {}])
def test_parts_of_names_check_versions_too(changed, tmp_path, medsae_at):
    world = nw.build(tmp_path, images=260, neurons=4, share=0.5)
    medsae, words = medsae_at(tmp_path), ("name", "--scores", world.scores, "--pictures", 5, "--neurons", "0,1")
    assert medsae(*words, "--shard", "1/2")[0] in (0, 2, 3)
    notes = next((medsae.data / "cache/shards").glob("name-*/parts/1-of-2.json"))
    notes.write_text(seals.text({**seals.read(notes), **changed}))
    status, _, err = medsae(*words, "--shard", "2/2")
    assert ("by other versions" in err) == bool(changed) and (status == 2) == bool(changed)


def test_other_versions_are_named_and_nothing_is_computed(begun):
    medsae, words, folder = begun
    path = folder / "parts/1-of-2.json"
    note = seals.read(path)
    path.write_text(seals.text({**note, "host": "node7", "versions": {**note["versions"], "torch": "1.0"}}))
    pieces = sorted(p.name for p in folder.glob("*.npy"))
    for words_now in ((*words, "--shard", "2/2"), ("merge", *words)):
        said = refused(medsae, *words_now)
        assert "shard 1/2 was made on node7 by other versions: torch 1.0 there" in said
    assert pieces == sorted(p.name for p in folder.glob("*.npy"))


def test_a_plan_of_another_precision_is_kept(begun):
    medsae, words, folder = begun
    plan = seals.read(folder / "plan.json")
    (folder / "plan.json").write_text(seals.text({**plan, "torch": "1.0"}))
    assert "begun in another way" in refused(medsae, *words, "--shard", "2/2")
    assert list(folder.glob("*.npy"))


def test_a_merge_where_nothing_has_begun_says_how_to_begin(root, medsae):
    cohort = medsae.id("ingest", "chexpert", "--root", root, "--no-pictures")
    said = refused_anywhere(medsae, "merge", "embed", "--cohort", cohort, "--encoder", "simclip")
    assert "no shard of this command has begun here" in said and "--shard 1/2" in said
    assert not list((medsae.data / "artifacts").glob("embeddings/.building-*")), "nothing is left behind"


def refused_anywhere(medsae, *words) -> str:
    status, out, err = medsae(*words)
    assert status == 2 and not out
    return " ".join(err.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("embed", "--cohort", "x", "--encoder", "simclip", "--shard", "3/2"), "give i/N"),
        (("embed", "--cohort", "x", "--encoder", "simclip", "--shard", "0/2"), "give i/N"),
        (("embed", "--cohort", "x", "--encoder", "simclip", "--shard", "two"), "give i/N"),
        (("embed", "--cohort", "x", "--from", "x.npy", "--shard", "1/2"), "--shard goes with --encoder"),
        (("train", "--embeddings", "x", "--shard", "1/2"), "--shard goes with --sweep"),
        (("merge", "list"), "list is not done in parts"),
        (("merge", "embed", "--cohort", "x", "--encoder", "simclip", "--shard", "1/2"), "without --shard"),
        (("merge", "nothing"), "no command 'nothing'"),
        (("merge", "--shard", "1/2"), "stands before the command"),
    ],
)
def test_words_that_do_not_fit(words, said, medsae):
    status, _, err = medsae(*words)
    assert status == 2 and said in err


def test_pieces_are_divided_without_rest(tmp_path):
    parts = [Part(i, 3, tmp_path, ("medsae",)) for i in (1, 2, 3)]
    owned = sorted(k for part in parts for k in part.mine(list(range(10))))
    assert owned == list(range(10))
    assert Part(0, 0, tmp_path, ("medsae",)).makes(7)
    assert Part(1, 2, tmp_path, ("python", "-m", "medsae", "embed")).merge_command == "python -m medsae merge embed"


def test_a_torn_note_is_left_out(tmp_path):
    about = {"versions": {}, "config": {}, "inputs": {}}
    shards.join(tmp_path, "1/2", ["medsae"], about, Silent())
    (tmp_path / "parts/2-of-2.json").write_text("{")
    part = shards.join(tmp_path, "merge", ["medsae"], about, Silent())
    assert part is not None
    with pytest.raises(UserError, match="1 pieces are not finished: of shard 2/2"):
        part.mine([1])
