"""The plan of a study: by hand where it can be, and what follows from its shape."""

import dataclasses
import json

import pytest

from medsae import scale
from medsae.progress import UserError
from medsae.scale import Machine, Network, Study, Units

MACHINE = Machine(cores=4, gpus=0, memory_gib=32, disk_gb=1000, days=7, gpu_tflops=20, gpu_low_tflops=200,
                  core_hour=0.05, gpu_hour=4, gb_month=0.02)  # fmt: skip
STUDY = Study(1_000_000, Network(512, 8.0, 0.03), 8192, 0.1, 50, 16, 10, 100)
UNITS = Units(start_train_s=5, train_image_s=1e-6, train_cell_s=1e-11, train_pass_cell_s=3e-11, check_picture_s=2e-3, check_megapixel_s=1e-2,
              start_ingest_s=1)  # fmt: skip


def test_costs_by_hand():
    # 0.7 M rows x 10 epochs x (512 x 8,192 cells x 1e-11 s + 1e-6 s) + 0.7 M x cells x 3e-11 s + 5 s
    assert scale.train(STUDY, MACHINE, UNITS).core_s == pytest.approx(5 + 7e6 * (4_194_304e-11 + 1e-6) + 88.080384)
    assert scale.ingest(STUDY, MACHINE, UNITS).core_s == pytest.approx(1 + 1e6 * (2e-3 + 1e-3))
    assert scale.embed(STUDY, MACHINE, UNITS).disk_bytes == 4 * 512 * 1e6
    gpu = scale.train(STUDY, dataclasses.replace(MACHINE, gpus=1), UNITS)  # five products of two operations a cell
    assert gpu.gpu_s == pytest.approx(7e6 * 10 * 4_194_304 / 20e12) and gpu.core_s == pytest.approx(5 + 7)


def test_a_line_sums_hours_and_dollars():
    made = scale.plan(STUDY, MACHINE, UNITS)
    train = next(line for line in made.lines if line.step == "train")
    assert train.hours == pytest.approx(train.core_hours / 4)
    assert train.dollars == pytest.approx(train.core_hours * 0.05 + train.disk_gb * 0.02)
    assert made.first.fits_to == min(line.fits_to for line in made.lines)
    assert json.loads(json.dumps(made.record()))["breaks_first"] == made.first.step


@pytest.mark.parametrize("step", scale.STEPS)
def test_where_a_step_breaks_is_where_it_no_longer_fits(step):
    made = next(line for line in scale.plan(STUDY, MACHINE, UNITS).lines if line.step == step)
    fits, over = (scale.plan(dataclasses.replace(STUDY, images=n), MACHINE, UNITS).lines
                  for n in (int(made.fits_to * 0.98), int(made.fits_to * 1.02)))  # fmt: skip
    if made.fits_to >= scale.MOST // 2:
        return
    limit = {"memory": ("memory_gib", 32), "time": ("hours", 24 * 7), "disk": ("disk_gb", 1000)}[made.breaks_by]
    place = list(scale.STEPS).index(step)
    assert getattr(fits[place], limit[0]) <= limit[1] < getattr(over[place], limit[0])
    assert made.then == scale.THEN[step, made.breaks_by]


@pytest.mark.parametrize("field", ["images", "neurons", "megapixels", "active", "epochs", "named"])
def test_more_is_never_cheaper(field):
    more = dataclasses.replace(STUDY, **{field: getattr(STUDY, field) * 3})
    small, large = (scale.plan(study, MACHINE, UNITS) for study in (STUDY, more))
    for a, b in zip(small.lines, large.lines, strict=True):
        assert b.core_hours >= a.core_hours and b.gpu_hours >= a.gpu_hours
        assert b.memory_gib >= a.memory_gib or a.step == "train"  # beyond 4 GiB its rows stay on disk
    assert small.record()["dollars"] < large.record()["dollars"]


def test_activations_beyond_what_is_held_lie_on_disk_and_beyond_a_table_are_not_kept():
    held, table = scale.HELD_FIRING / 16, scale.TABLE_FIRING / 16
    memory = [scale.score(dataclasses.replace(STUDY, images=int(n)), MACHINE, UNITS) for n in
              (held * 0.9, held, held * 1.1, table * 1.01, table * 1.11)]  # fmt: skip
    below, above, far = (
        (memory[k + 1].memory_bytes - memory[k].memory_bytes) / steps for k, steps in ((0, held), (1, held), (3, table))
    )
    assert below * 10 == pytest.approx(UNITS.score_image_bytes + 16 * (UNITS.score_firing_bytes + 8), rel=1e-4)
    assert above * 10 == pytest.approx(UNITS.score_image_bytes + 16 * UNITS.score_firing_bytes, rel=1e-4)
    assert far * 10 == pytest.approx(UNITS.score_image_bytes, rel=1e-4)
    assert memory[4].core_s > memory[3].core_s and memory[4].disk_bytes == memory[3].disk_bytes


def test_every_limit_of_every_step_says_what_is_done_then():
    assert set(scale.THEN) == {(step, by) for step in scale.STEPS for by in ("memory", "time", "disk")}


def test_units_of_a_file(tmp_path):
    (tmp_path / "u.json").write_text('{"train_cell_s": 1e-9}')
    assert Units.read(tmp_path / "u.json") == dataclasses.replace(Units(), train_cell_s=1e-9)
    assert Units.read(None) == Units()
    for bad in ('{"train_cell_s": "x"}', '{"other": 1}', "[1]", "{", '{"train_cell_s": -1}'):
        (tmp_path / "u.json").write_text(bad)
        with pytest.raises(UserError):
            Units.read(tmp_path / "u.json")


def test_the_command_prints_a_table_or_json(medsae):
    status, out, _ = medsae("plan", "--pictures", 10_000_000, "--encoder", "medclip-resnet", "--gpus", 2)
    assert status == 0 and "first to break" in out and all(f"\n{step} " in out for step in scale.STEPS)
    assert "assumed" in out
    status, out, _ = medsae("plan", "--pictures", 1000, "--json")
    assert status == 0 and json.loads(out)["images"] == 1000
    status, _, err = medsae("plan", "--pictures", 1000, "--encoder", "mine")
    assert status == 2 and "--gflop" in err
    status, out, _ = medsae("plan", "--pictures", 1000, "--encoder", "mine", "--d", 64, "--gflop", 2)
    assert status == 0
    assert medsae("plan", "--pictures", 0)[0] == 2


MEASURED = {
    "100,000 x 2,048": (100_000, 2048, 400, 48.8, 781),
    "100,000 x 8,192": (100_000, 8192, 400, 93.1, 1041),
    "1,000,000 x 8,192, fewer draws": (1_000_000, 8192, 100, 498.0, 1561),
    "20,000 x 2,048, no part in the fit": (20_000, 2048, 400, 17.4, 465),
    "50,000 x 4,096, no part in the fit": (50_000, 4096, 400, 44.0, 657),
}
"""Images, neurons, draws of null and bootstrap, core seconds and MiB held by `score`; d = 512, 16 active (docs/scale.md)."""


@pytest.mark.parametrize("measured", MEASURED)
def test_the_plan_of_score_holds_against_what_was_measured(measured):
    n, m, draws, core_s, mib = MEASURED[measured]
    study = Study(n, Network(512, 0, 0), m, 0, 0, 16, 1, 0, maps=False, draws=draws)
    found = scale.score(study, MACHINE, Units())
    assert found.core_s == pytest.approx(core_s, rel=0.25) and found.memory_bytes / 2**20 == pytest.approx(
        mib, rel=0.25
    )
