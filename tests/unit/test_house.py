"""The house: imports point one way, the server never loads torch, the project speaks of itself alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"cohorts", "simulated", "encoders", "sae", "scoring", "naming", "store", "formats", "effects", "reading"}
SHELF = {"files", "progress", "plugins", "device", "rates"}
BASE = SHELF | {"config"}
MAY_IMPORT = {
    "config": SHELF,
    "files": set(),
    "progress": {"files"},
    "plugins": {"progress"},
    "device": {"progress"},
    "rates": set(),
    **{room: BASE | {room} for room in ROOMS},
    "naming": BASE | {"naming"},
    "jobs": BASE | {"store"},  # store.locks: whether a lock is held is asked in one place
    "steps": BASE | ROOMS | {"steps"},
    "cli": BASE | {"jobs", "steps", "store"},
    "ui": BASE | {"ui", "store", "jobs", "cohorts"},  # cohorts: the one decoder, for the viewer (decision 055)
    "app": BASE | {"ui", "store", "jobs"},
}
FILES = sorted([*ROOT.glob("medsae/**/*.py"), *ROOT.glob("pages/*.py"), ROOT / "app.py"])


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "medsae" and len(parts) > 1 else "app"


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", [f for f in FILES if f.name not in ("__main__.py",)], ids=lambda p: str(p.name))
def test_imports_point_one_way(path):
    here = room(path)
    if here == "__init__":
        return
    used = {name.split(".")[1] for name in imported(path) if name.startswith("medsae.")} - {"__version__"}
    assert used <= MAY_IMPORT[here], f"{path.relative_to(ROOT)} imports {sorted(used - MAY_IMPORT[here])}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.name))
def test_only_the_pages_import_streamlit_and_only_the_store_opens_duckdb(path):
    packages = {name.split(".")[0] for name in imported(path)}
    assert "streamlit" not in packages or room(path) in ("ui", "app")
    if "duckdb" in packages:
        assert room(path) in ("store", "steps"), "steps write through a connection that the store opened"
        assert "duckdb.connect(" not in path.read_text() or room(path) == "store"


def test_the_server_and_the_quick_commands_load_no_torch():
    code = (
        "import sys; import medsae.cli, medsae.jobs, medsae.store.artifacts, medsae.config, medsae.encoders;"
        "from pathlib import Path;"
        "import medsae.ui, medsae.store.queries;"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_project_speaks_of_itself_alone():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    registry = "|".join(("pypi" + r"\.org", "files" + r"\.pythonhosted"))
    forbidden = re.compile(rf"/work/(?:{'main'}|shared)|/tmp/(?:{'team'})|{registry}")
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".txt", ".toml", ".sql", ".jinja", "") and path.is_file():
            hit = forbidden.search(path.read_text(errors="ignore"))
            assert hit is None, f"{name}: {hit and hit.group()}"
