"""Single flips and cuts in every file of a data folder, hostile values for links, and pages opened without a browser."""

from __future__ import annotations

import math
import os
import random
import subprocess
import time
from pathlib import Path

from lanes import LANES, lanes
from study import ROOT, Row, Study, command, spent, temporary

PAGES = tuple(sorted(path.stem for path in (ROOT / "pages").glob("*.py")))
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


def hostile(n: int, seed: int = 0) -> list[tuple[str, dict[str, str]]]:
    """Random pages with random values, one to three parameters at a time; no value is left out before all were tried."""
    chance = random.Random(seed)
    grid = [(parameter, value) for parameter in PARAMETERS for value in HOSTILE]
    chance.shuffle(grid)
    return [(PAGES[i % len(PAGES)], dict(grid[(i * 3 + j) % len(grid)] for j in range(1 + i % 3))) for i in range(n)]


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
    """`n` flips and cuts of single files of every kind, two at a time."""
    share = [n // LANES + (lane < n % LANES) for lane in range(LANES)]
    return lanes(lambda lane: _damage(study, share[lane], f"{seed}{lane}", pages_every, until))


def _damage(study: Study, n: int, seed: str, pages_every: int, until: float) -> list[Row]:
    """After each flip or cut `list` and a page answer; what is damaged is named, or everything that is told is the same."""
    from medsae import files

    chance, rows = random.Random(seed), {name: Row(f"flips and cuts: {name}") for name in ("artifacts", *SMALL)}
    with temporary("damage") as folder:
        data = everything(study, folder / "data")
        whole, kinds = told(study, data), by_kind(data)
        for i in range(n):
            if time.monotonic() > until:
                break
            # Half of the tries go to artifacts, the others to each kind of small file in turn.
            kind = "artifacts" if i % 2 else SMALL[i // 2 % len(SMALL)]
            row, began, cpu = rows[kind], time.monotonic(), spent()
            path = chance.choice(kinds[kind])
            content = path.read_bytes()
            now, how = changed(content, chance)
            path.write_bytes(now)
            where = f"{path.relative_to(data)} {how}"
            row.tries += 1
            row.hits += 1
            status, _, problems = inside(["list"], data)
            if status or "Traceback" in problems:
                row.bad(f"{where}: list ended with {status}: {problems[-200:]}")
            if not _named(study, data, path, kind, problems) and (kind == "artifacts" or told(study, data) != whole):
                row.bad(f"{where}: silent", lost=True)
            if i // 2 % pages_every == 0:  # both after an artifact and after a small file
                page = PAGES[i // pages_every % len(PAGES)]
                for error in opened(data, page, {}):
                    row.bad(f"{where}: page {page}: {error[:300]}")
            files.write(path, content)
            row.seconds, row.cpu = row.seconds + time.monotonic() - began, row.cpu + spent() - cpu
    return [row for row in rows.values() if row.tries]


SMALL = ("ledger", "notes and titles", "jobs", "caches")


def everything(study: Study, data: Path) -> Path:
    """A data folder with a file of every kind: artifacts, names, notes, titles, jobs, caches, a salt."""
    from medsae.store import housekeeping, pictures
    from medsae.store.artifacts import Store
    from medsae.store.notes import Note, Notes

    study.copy(data)
    command(["embed", "--cohort", "nothing", "--encoder", "simclip"], data)  # a job that failed
    command(study.words["name"], data)  # a job that is done
    store = Store(data)
    for neuron in range(4):
        Notes(store, study.ids["train"]).put(Note(neuron, star=True, text=f"note {neuron}", verdict="agree"))
    housekeeping.describe(store, study.ids["train"], title="The first", about="what it is")
    pictures.salt(store)
    return data


def by_kind(data: Path) -> dict[str, list[Path]]:
    """The files that hold something, by their kind."""
    found = sorted(p for p in data.rglob("*") if p.is_file() and p.stat().st_size)
    artifacts, names = data / "artifacts", data / "artifacts" / "names"
    kinds = {
        "artifacts": [p for p in found if artifacts in p.parents and names not in p.parents],
        "ledger": [p for p in found if names in p.parents],
        "notes and titles": [p for p in found if p.parent == data or p.parent.name == "notes"],
        "jobs": [p for p in found if data / "jobs" in p.parents],
        "caches": [p for p in found if data / "cache" in p.parents],
    }
    assert all(kinds.values()), {kind: len(paths) for kind, paths in kinds.items()}
    return kinds


def told(study: Study, data: Path) -> object:
    """What the program says that rests on small files: names, verdicts, notes, titles, jobs."""
    from medsae.jobs import Jobs
    from medsae.store import housekeeping
    from medsae.store.artifacts import Store
    from medsae.store.ledger import Ledger
    from medsae.store.notes import Notes

    store = Store(data)
    ledger = Ledger(store, study.ids["score"])
    verdicts = "SELECT * FROM {verdicts} ORDER BY run, neuron, about, image, time"
    return (
        ledger.names().to_csv(), sorted(map(repr, ledger.rows(verdicts))), Notes(store, study.ids["train"]).all(),
        housekeeping.cards(data), Jobs(data).list(),
    )  # fmt: skip


def _named(study: Study, data: Path, path: Path, kind: str, problems: str) -> bool:
    """Whether the damage is named: by `list`, which tells the file, or by `show` of the artifact."""
    if kind != "artifacts":
        return str(path.parent / path.name.partition(".")[0]) in problems
    id = path.relative_to(data / "artifacts").parts[1]
    if id in problems:
        return True
    status, _, said = inside(["show", id], data)
    return status == 2 and "damaged" in said


def changed(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """A file with one bit flipped or, one time in four, cut short (one of three at the end of a line); and how."""
    at = chance.randrange(len(content))
    if chance.random() < 0.25:
        if chance.random() < 0.3:  # at the end of a line: what is left is whole
            at = content.rfind(b"\n", 0, at) + 1
        return content[:at], f"cut at {at}"
    bit = chance.randrange(8)
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :], f"bit {bit} flipped at {at}"


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
