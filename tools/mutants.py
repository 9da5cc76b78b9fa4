"""`make mutants`: change one line at a time and look whether a test notices.

    python tools/mutants.py [--sample 150] [--seed 0] [--keep FOLDER]
                            [--files scoring/tail.py ... [--tests PATTERN ...]]

Works in a copy of what git tracks (mutmut writes into its working folder), on the files of `[tool.mutmut]` in
pyproject.toml, or on some of them against some of the tests (quicker; what other tests would notice survives then). A
sample holds as large a share of every file's mutants. Prints caught and surviving mutants by file,
and the change that each survivor makes. A mutant that no selected test reaches counts as surviving.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ["tests/unit/test_scoring_*.py", "tests/unit/test_naming_detection.py", "tests/unit/test_naming_replies.py",
         "tests/unit/test_naming_audit.py", "tests/unit/test_words.py", "tests/unit/test_ms_embeddings.py",
         "tests/app/test_map_page.py",
         "tests/unit/test_sae_gradients.py", "tests/unit/test_store.py", "tests/unit/test_seal.py"]  # fmt: skip
CAUGHT = {1, 3, -24, 24, 152, 255, 36, -9, -11}
"""Exit codes of mutmut: a test failed, the tests ran out of time, or the process died."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=150, help="mutants to try; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder of the copy; used again, mutants already tried are not")
    parser.add_argument("--files", nargs="+", help="of medsae/, such as scoring/tail.py")
    parser.add_argument("--tests", nargs="+", default=TESTS, help="patterns of test files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        copy(folder, options.files, options.tests)
        mutmut(folder, ["nothing*"])  # makes the mutants and looks which test reaches which; then finds none to try
        known = results(folder)
        names = sample(known, options.sample, options.seed)
        mutmut(folder, names)
        report(folder, {name: code for name, code in results(folder).items() if name in set(names)})


def copy(folder: Path, files: list[str] | None, patterns: list[str]) -> None:
    """What git tracks, as it stands; mutants of `files` (None: all that pyproject.toml names)."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, tracked.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    tests = sorted(path for pattern in patterns for path in glob.glob(pattern, root_dir=folder))
    config = (folder / "pyproject.toml").read_text()
    config = config.replace("test_selection = [", f"test_selection = {json.dumps(tests)[:-1]}, ")
    if files:
        names = json.dumps([f"medsae/{name}" for name in files])
        config = re.sub(r"only_mutate = \[[^]]*\]", lambda _: f"only_mutate = {names}", config)
    (folder / "pyproject.toml").write_text(config)


def mutmut(folder: Path, names: list[str]) -> None:
    quiet = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run", "--max-children", "1", *names]
    subprocess.run(command, cwd=folder, env=quiet, stdout=sys.stderr, stdin=subprocess.DEVNULL)


def results(folder: Path) -> dict[str, int | None]:
    """Mutant -> exit code of its tests; None: not tried."""
    found: dict[str, int | None] = {}
    for path in sorted((folder / "mutants").rglob("*.meta")):
        found |= json.loads(path.read_text())["exit_code_by_key"]
    if not found:
        raise SystemExit("mutmut made no mutants: pip install mutmut==3.8.1")
    return found


def file_of(mutant: str) -> str:
    return re.sub(r"\.(xǁ|x_).*", "", mutant)


def sample(known: dict[str, int | None], size: int, seed: int) -> list[str]:
    """The same share of every file's mutants, at least two of each."""
    of: dict[str, list[str]] = {}
    for name in known:
        of.setdefault(file_of(name), []).append(name)
    share = 1.0 if not size else size / len(known)
    draw = random.Random(seed)
    chosen = [draw.sample(names, min(len(names), max(2, round(share * len(names))))) for names in of.values()]
    return sorted(name for names in chosen for name in names)


def report(folder: Path, tried: dict[str, int | None]) -> None:
    of: dict[str, list[bool]] = {}
    for name, code in tried.items():
        of.setdefault(file_of(name), []).append(code in CAUGHT)
    print("| file | mutants tried | caught |\n|---|---|---|")
    for file, caught in sorted(of.items()):
        print(f"| {file.removeprefix('medsae.')} | {len(caught)} | {sum(caught)} |")
    every = [one for caught in of.values() for one in caught]
    print(f"| all | {len(every)} | {sum(every)} ({sum(every) / len(every):.0%}) |\n")
    for name, code in tried.items():
        if code not in CAUGHT:
            shown = subprocess.run([sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "show", name],
                                   cwd=folder, capture_output=True, text=True)  # fmt: skip
            print(f"--- {name} (exit {code})")
            print("\n".join(line for line in shown.stdout.splitlines() if re.match(r"[+-](?![+-])", line)))


if __name__ == "__main__":
    main()
