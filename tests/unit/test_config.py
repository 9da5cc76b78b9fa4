"""Configs: the command line, the record and the identity agree."""

import shlex
from dataclasses import dataclass

import pytest

from medsae import config as c
from medsae.cli import _parse, main
from medsae.config import Embed, Pooling, check, command_line, identity, joined, options_of, record
from medsae.progress import UserError

COMMANDS = [
    "ingest chexpert --root DIR",
    "ingest table --table FILE --root DIR --label-columns A,B",
    "ingest simulated --images 10 --seed 3",
    "embed --cohort ID --encoder medclip-resnet",
    "embed --cohort ID --encoder simclip --unit-norm False",
    "embed --cohort ID --from X.npy --rows ROWS.csv --name NAME",
    "train --embeddings ID",
    "train --embeddings ID --preset paper",
    "train --embeddings ID --expansion 4 --epochs 50 --l1 3e-4 --lr 1e-3 --seed 0",
    "score --embeddings ID --representation raw",
    "score --sae ID --images all --uncertain one",
    "run demo",
    "run paper --root DIR",
    "list --kind sae",
    "show ID",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_documented_spelling_parses_and_round_trips(command):
    config = _parse(shlex.split(command))
    assert _parse(c.command_line(config)) == config


def test_the_paper_preset_is_section_4_1():
    sae = c.Train(embeddings="x", preset="paper").resolved(223_414)
    assert (sae.kind, sae.l1, sae.expansion, sae.epochs, sae.lr, sae.batch) == ("relu", 3e-4, 16, 200, 7e-6, 1024)


def test_an_option_chooses_its_kind_and_options_of_other_kinds_are_refused():
    assert c.Train(embeddings="x", l1=1e-3).resolved(9999).sae == c.Relu(l1=1e-3)
    assert c.Train(embeddings="x", k=8).resolved(9999).kind == "topk"
    with pytest.raises(UserError, match="--k does not belong to --kind relu"):
        c.Train(embeddings="x", kind="relu", k=8).resolved(9999)


def test_a_small_cohort_gets_a_smaller_batch_and_an_explicit_one_stays():
    assert c.Train(embeddings="x").resolved(800).batch == 100
    passes = [c.Train(embeddings="x").resolved(800 * t, 8, t).epochs for t in (1, 16, 64, 1369)]
    assert passes == [60, 4, 1, 1], "as many steps as of whole images"
    assert c.Train(embeddings="x", epochs=7).resolved(800 * 16, 8, 16).epochs == 7
    assert c.Train(embeddings="x", batch=700).resolved(800).batch == 700
    assert c.Train(embeddings="x").resolved(5).batch == 5


@pytest.mark.parametrize("words, message", [
    ("train --embeddings x --l1 -1", "must not be negative"),
    ("train --embeddings x --expansion 0", "at least 1"),
    ("embed --cohort x", "either --encoder or --from"),
    ("embed --cohort x --encoder simclip --rows a.csv", "--rows goes with --from"),
    ("score --embeddings x", "either --sae ID"),
    ("score --sae x --embeddings y", "needs --embeddings|knows its own"),
    ("ingest simulated --images 0", "at least 1"),
    ("nonsense", "no command"),
    ("--json list", "before the command"),
])  # fmt: skip
def test_bad_combinations_exit_with_2_and_name_the_option(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDSAE_DATA", str(tmp_path))
    assert main(shlex.split(words)) == 2
    import re

    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("l1, given, norm", [(None, None, 1.0), (0.99, None, 1.0), (1.0, None, 0.1), (4.0, 1.0, 1.0)])
def test_a_large_lambda_starts_with_a_small_encoder(l1, given, norm):
    assert c.Train(embeddings="e", kind="relu", l1=l1, encoder_norm=given).resolved(100).encoder_norm == norm


def test_a_record_is_plain_json_without_runtime_fields():
    record = c.record(c.Embed(cohort="x", encoder="simclip", device="cpu"))
    assert record["encoder"] == "simclip" and "device" not in record and "data" not in record


def test_no_words_prints_the_commands(capsys):
    assert main([]) == 2
    assert "train" in capsys.readouterr().out


@dataclass(frozen=True, kw_only=True)
class Layered(Pooling):
    """Options of an encoder that a package of its own might add."""

    layer: int = -1
    """Which hidden state."""

    def __post_init__(self):
        check(self.layer >= -1, f"--layer {self.layer} must be at least -1")


def test_options_of_an_encoder_join_the_command():
    kind = joined(Embed, Layered)
    config = kind(cohort="c", encoder="simclip", layer=3)
    assert isinstance(config, Embed) and kind is joined(Embed, Layered)
    assert record(config)["layer"] == 3 and command_line(config)[-2:] == ["--layer", "3"]
    assert identity("s", config, [], {}) != identity("s", kind(cohort="c", encoder="simclip"), [], {})
    assert options_of(config, Layered) == Layered(layer=3)
    assert joined(Embed, None) is Embed and joined(Embed, Pooling) is Embed, "what a command has already is not added"
    with pytest.raises(UserError, match="--layer -2"):
        kind(cohort="c", encoder="simclip", layer=-2)
    with pytest.raises(UserError, match="either --encoder or --from"):
        kind(cohort="c", encoder=None)


def test_options_that_repeat_the_command_are_refused():
    @dataclass(frozen=True, kw_only=True)
    class Twice:
        precision: str = "mine"

    with pytest.raises(ValueError, match="repeats options of Embed: precision"):
        joined(Embed, Twice)


def test_an_added_field_changes_the_identity_only_when_it_is_used():
    assert "pool" not in record(Embed(cohort="c", encoder="simclip"))
    assert record(Embed(cohort="c", encoder="simclip", pool="mean"))["pool"] == "mean"
