"""Third parties: the example plug-in is installed into a folder of its own and embeds; a broken one is named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with examples/plugin installed by pip, without network."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(ROOT / "examples" / "plugin", folder / "source")  # a build leaves folders beside what it builds
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--disable-pip-version-check", "--target", folder / "site", folder / "source"]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return folder / "site"


def run(site: Path, data: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """`python -m medsae ...` in a fresh process that sees the packages of `site`."""
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}", "MEDSAE_DATA": str(data)}
    command = [sys.executable, "-m", "medsae", *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=data.parent)


@pytest.mark.long
def test_the_example_embeds_with_its_own_options(installed, medsae, tmp_path, write_chexpert):
    root = write_chexpert(tmp_path, patients=12)
    cohort = medsae.id("ingest", "chexpert", "--root", root, "--workers", 1)
    ran = run(installed, medsae.data, "embed", "--cohort", cohort, "--encoder", "blocks", "--blocks", 8)
    assert ran.returncode == 0, ran.stderr
    from medsae.store.artifacts import Store

    made = Store(medsae.data).get(ran.stdout.split()[-1], "embeddings")
    assert made.facts["encoder"] == "blocks" and made.facts["d"] == 3 * 8 * 8
    assert made.config["blocks"] == 8 and made.id.startswith("blocks-")
    again = run(installed, medsae.data, "embed", "--cohort", cohort, "--encoder", "blocks", "--blocks", 1)
    assert again.returncode == 2 and "--blocks 1 must lie in 2 .. 64" in again.stderr


def test_a_broken_plug_in_is_named_and_left_out(tmp_path):
    info = tmp_path / "site" / "odd_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[medsae.encoders]\nodd = odd_plugin\n")
    (tmp_path / "site" / "odd_plugin.py").write_text("raise RuntimeError('half written')\n")
    ran = run(tmp_path / "site", tmp_path / "data", "embed", "--cohort", "x", "--encoder", "odd")
    assert ran.returncode == 2
    assert "the plug-in 'odd' of odd-plugin is left out: RuntimeError: half written" in ran.stderr
    assert "simclip" in ran.stderr, "the others are there"
