"""Many pictures at once: order, bounds, stopping, and a process that dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsae.cohorts.checking import check_pictures, decode_apart
from medsae.cohorts.pictures import PictureError, check_picture, decode
from medsae.progress import Silent

SHARED = Path(__file__).parents[2] / "../shared/cxr"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    paths = []
    for i in range(150):
        path = folder / f"{i}.png"
        if i % 50 == 7:
            path.write_bytes(b"no picture")
        elif i % 50 != 9:  # 9: missing
            Image.fromarray(rng.integers(0, 256, (40, 40 + i), dtype=np.uint8)).save(path)
        paths.append(path)
    return paths


def test_processes_give_what_one_gives_in_order(pictures: list[Path]) -> None:
    alone = list(check_pictures(pictures, 1, Silent()))
    together = list(check_pictures(pictures, 2, Silent()))
    assert [position for position, _ in together] == list(range(len(pictures)))
    assert together == alone
    assert sum(checked.refused is not None for _, checked in alone) == 6


def test_stopping_early_ends_the_processes(pictures: list[Path]) -> None:
    before = {child.pid for child in multiprocessing.active_children()}
    found = check_pictures(pictures, 2, Silent())
    for position, _ in found:
        if position == 20:
            break
    found.close()  # type: ignore[attr-defined]
    assert {child.pid for child in multiprocessing.active_children()} <= before


class Deadly:
    """Stands for a picture whose decoder crashes: the process that receives it ends at once."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (1,)


def test_a_picture_that_kills_its_process_is_refused_and_the_rest_goes_on(pictures: list[Path]) -> None:
    paths = [*pictures]
    paths[30] = Deadly()  # type: ignore[call-overload]
    found = list(check_pictures(paths, 2, Silent()))
    assert [position for position, _ in found] == list(range(len(paths)))
    assert found[30][1].refused == "its decoder crashed"
    assert found[31][1] == check_picture(pictures[31]) and found[149][1] == check_picture(pictures[149])
    assert sum(checked.refused is not None for _, checked in found) == 7


class Stuck:
    """Stands for a picture that is never decoded: in the process that receives it, its path is waited for for ever."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("type('Slow', (), {'__fspath__': lambda self: __import__('time').sleep(3600)})()",)


def test_a_picture_has_a_deadline_and_the_rest_goes_on(pictures: list[Path]) -> None:
    paths = [*pictures[:20]]
    paths[5] = Stuck()  # type: ignore[call-overload]
    found = list(check_pictures(paths, 2, Silent(), deadline=2.0))
    assert [position for position, _ in found] == list(range(20))
    assert found[5][1].refused == "took longer than 2 s to decode"
    assert found[4][1] == check_picture(pictures[4]) and found[19][1] == check_picture(pictures[19])


def test_bytes_from_anywhere_are_decoded_apart(pictures: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (decode_apart(pictures[0].read_bytes()) == decode(pictures[0])).all()
    with pytest.raises(PictureError, match="not a picture"):
        decode_apart(b"no picture at all")
    with pytest.raises(PictureError, match="its decoder crashed"):
        decode_apart(Deadly())  # type: ignore[arg-type]
    with pytest.raises(PictureError, match="took longer than 1 s"):
        decode_apart(Stuck(), deadline=1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_script_without_a_guard_is_not_run_again(pictures: list[Path], tmp_path: Path, how: str) -> None:
    script = f"""
import pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
print("begun", flush=True)
from medsae.cohorts.checking import check_pictures
from medsae.progress import Silent
print(sum(1 for _ in check_pictures([pathlib.Path({str(pictures[0])!r})] * 40, 2, Silent())))
"""
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py")] if how == "file" else [sys.executable, "-"]
    done = subprocess.run(
        command, input=script if how == "stdin" else None, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["begun", "40"], done.stderr


PARENT = """
import multiprocessing, pathlib, signal, sys
from medsae.cohorts.checking import check_pictures
from medsae.progress import Silent
signal.signal(signal.SIGINT, signal.default_int_handler)
found = check_pictures([pathlib.Path(sys.argv[1])] * 1_000_000, 2, Silent())
try:  # the signal may come as soon as the line of process ids is out
    next(found)
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    for _ in found:
        pass
except KeyboardInterrupt:
    found.close()
    print("stopped", flush=True)
"""


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_their_parent(sent: signal.Signals, pictures: list[Path]) -> None:
    command = [sys.executable, "-c", PARENT, str(pictures[0])]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], **pipes) as parent:  # type: ignore[call-overload]
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        if sent == signal.SIGKILL:
            parent.kill()
        else:
            os.killpg(parent.pid, sent)  # Ctrl-C reaches every process of the terminal
        rest, errors = parent.communicate(timeout=60)
    assert rest == ("stopped\n" if sent == signal.SIGINT else "")
    assert "Traceback" not in errors
    for _ in range(400):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        time.sleep(0.05)
    pytest.fail(f"processes {pids} outlived their parent")


def test_real_subset() -> None:
    if not SHARED.is_dir():
        pytest.skip("the folder with real radiographs is not here")
    paths = sorted(SHARED.glob("valid/*/*/*.jpg"))[:100]
    checked = [found for _, found in check_pictures(paths, 2, Silent())]
    assert all(found.refused is None and found.width == 320 for found in checked)
    assert 1000 < np.mean([len(found.webp) for found in checked]) < 4000
