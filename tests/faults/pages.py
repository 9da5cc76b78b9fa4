"""Pages opened without a browser: any parameters, any damage; what a page may not do is raise."""

from __future__ import annotations

import math
import os
import random
import subprocess
import time
from pathlib import Path

from study import ROOT, Row, Study, command, temporary

PAGES = ("overview", "entropy", "correlations", "neurons", "neuron", "image", "concepts", "compare", "runs", "about")
PARAMETERS = ("scores", "versus", "unit", "patients", "show", "label", "lo", "hi", "dlo", "dhi", "rho", "q", "sort",
              "neuron", "image", "page", "view", "tab", "id", "job", "step", "named", "backend", "protocol", "pictures",
              "endpoint", "model", "about", "run", "above", "grouped", "rows", "top", "beside", "which", "one", "by",
              "order", "kept", "group", "tag")  # fmt: skip
HOSTILE = (
    "", "0", "-1", "1", "99999999999999999999", "9" * 4400, "1e400", "-1e308", "nan", "inf", "١٢٣", "0x10", "1_000",
    "' OR 1=1 --", '"; DROP TABLE image; --', "%", "_", "\\", "\0", "\r\n", "a\tb", "<script>alert(1)</script>",
    "../../etc/passwd", "/etc/shadow", "{scores}", "{0}", "$(id)", "`id`", "None", "null", "true", "[]", "{}",
    "😀", "\u202eabc", "\u0000", "é" * 3000, "A" * 100_000, "ρ", " ", "2147483647", "2147483648", "-0", "+5",
    "5.5", "1,2", "http://169.254.169.254/latest", "http://[::1", "javascript:alert(1)", "file:///etc/passwd",
    "9223372036854775808", "*", "(", "[", "(?P<", "𝟙", "\ufeff1",
)  # fmt: skip


def opened(data: Path, page: str, query: dict[str, str]) -> list[str]:
    """Exceptions of a page; empty when it answered."""
    import streamlit as st
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.testing.v1 import AppTest

    PagesManager.uses_pages_directory = False
    os.environ["MEDSAE_DATA"] = str(data)
    st.cache_resource.clear()
    st.cache_data.clear()
    test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.switch_page(f"pages/{page}.py")
    try:
        test.run()
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return [f"{e.message} {e.stack_trace[-1:] if hasattr(e, 'stack_trace') else ''}" for e in test.exception]


def urls(study: Study, n: int, seed: int = 0, until: float = math.inf) -> list[Row]:
    """Random pages with random values, one to three at a time."""
    row, began, chance = Row("hostile URLs"), time.monotonic(), random.Random(seed)
    grid = [(parameter, value) for parameter in PARAMETERS for value in HOSTILE]
    chance.shuffle(grid)
    for i in range(n):
        if time.monotonic() > until:
            break
        page = PAGES[i % len(PAGES)]
        query = dict(grid[(i * 3 + j) % len(grid)] for j in range(1 + i % 3))
        row.tries += 1
        row.hits += 1
        for error in opened(study.data, page, query):
            shown = {name: value[:40] for name, value in query.items()}
            row.bad(f"{page} {shown}: {error[:200]}")
    row.seconds = time.monotonic() - began
    return [row]


def read_only(study: Study) -> list[Row]:
    """Every page of a data folder that cannot be written: a read-only mount for root, whom no permission stops."""
    row, began = Row("read-only data folder"), time.monotonic()
    with temporary("readonly") as folder:
        data = study.copy(folder / "data")
        (data / "cache" / "patient-salt").unlink(missing_ok=True)
        root = os.geteuid() == 0
        if root and subprocess.run(["mount", "--bind", str(data), str(data)], capture_output=True).returncode:
            return []
        try:
            if root:
                subprocess.run(["mount", "-o", "remount,bind,ro", str(data)], check=True)
            else:
                _rights(data, 0o555, 0o444)
            for page in PAGES:
                row.tries += 1
                try:
                    (data / "probe").touch()
                except OSError:
                    row.hits += 1
                for error in opened(data, page, {}):
                    row.bad(f"{page}: {error}")
        finally:
            if root:
                subprocess.run(["umount", "-l", str(data)], check=True)  # DuckDB still holds its files
            else:
                _rights(data, 0o755, 0o644)
    row.seconds = time.monotonic() - began
    return [row]


def _rights(data: Path, folders: int, files: int) -> None:
    for path in [data, *data.rglob("*")]:
        path.chmod(folders if path.is_dir() else files)


def damage(study: Study, n: int, seed: int = 0, pages_every: int = 4, until: float = math.inf) -> list[Row]:
    """One flip or cut in a random file: `list` and a page answer, and `show` or `list` names the artifact."""
    from medsae import files

    row, began, chance = Row("flips and cuts: artifacts"), time.monotonic(), random.Random(seed)
    other = Row("flips and cuts: jobs, ledger, cache")
    with temporary("damage") as folder:
        data = study.copy(folder / "data")
        command(["embed", "--cohort", "nothing", "--encoder", "simclip"], data)  # a job
        artifacts = sorted(p for p in (data / "artifacts").rglob("*") if p.is_file() and "names" not in p.parts)
        rest = sorted(p for p in data.rglob("*") if p.is_file() and p not in artifacts and p.stat().st_size)
        for i in range(n):
            if time.monotonic() > until:
                break
            mine, paths = (other, rest) if i % 5 == 4 and rest else (row, artifacts)
            path = paths[chance.randrange(len(paths))]
            whole = path.read_bytes()
            if not whole:
                continue
            at = chance.randrange(len(whole))
            cut = chance.random() < 0.25
            path.write_bytes(
                whole[:at] if cut else whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :]
            )
            where = f"{path.relative_to(data)} {'cut' if cut else 'flipped'} at {at}"
            mine.tries += 1
            mine.hits += 1
            listed = inside(["list"], data)
            if listed[0] or "Traceback" in listed[2]:
                mine.bad(f"{where}: list ended with {listed[0]}: {listed[2][-200:]}")
            if mine is row:
                id = path.relative_to(data / "artifacts").parts[1]
                shown = inside(["show", id], data)
                if id not in listed[2] and (shown[0] != 2 or "damaged" not in shown[2]):
                    mine.bad(f"{where}: show says {shown[0]} {shown[2][-200:]}", lost=True)
            if i % pages_every == 0:
                page = PAGES[(i // pages_every) % len(PAGES)]
                for error in opened(data, page, {}):
                    mine.bad(f"{where}: page {page}: {error[:300]}")
            files.write(path, whole)
    row.seconds = time.monotonic() - began
    return [row, other]


def inside(words: list[str], data: Path) -> tuple[int, str, str]:
    """A command in this process: status, stdout, stderr; an exception is its text and status 99."""
    import io
    from contextlib import redirect_stderr, redirect_stdout

    from medsae.cli import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main([*words, "--data", str(data)])
        except BaseException as error:
            return 99, out.getvalue(), f"Traceback {type(error).__name__}: {error}"
    return status, out.getvalue(), err.getvalue()
