"""The house: imports point one way, the server never loads torch, the project speaks of itself alone."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = {"cohorts", "simulated", "encoders", "sae", "scoring", "naming", "store", "formats", "effects", "reading"}
SHELF = {
    "arrays",
    "dialects",
    "files",
    "seals",
    "shards",
    "progress",
    "plugins",
    "device",
    "rates",
    "geometry",
    "runs",
    "reports",
    "objects",
    "wrapped",
}
BASE = SHELF | {"config"}
MAY_IMPORT = {
    "config": BASE,
    "files": set(),
    "arrays": set(),
    "seals": set(),
    "dialects": {"progress"},
    "shards": {"files", "progress", "seals"},
    "progress": {"files", "seals"},
    "plugins": {"progress"},
    "device": {"progress"},
    "rates": set(),
    "wrapped": set(),
    "geometry": set(),
    "runs": set(),
    "reports": {"rates"},
    "objects": {"files", "progress"},
    **{room: BASE | {room} for room in ROOMS},
    "naming": BASE | {"naming"},
    "store": BASE | {"store", "scoring", "effects"},  # what a reader asks of one neuron is computed when asked
    "jobs": BASE | {"store"},  # store.troubles: what an error of the system means is said in one place
    "steps": BASE | ROOMS | {"steps", "cluster"},
    "cluster": BASE | {"cluster", "jobs", "store"},
    "launch": BASE,
    "scale": BASE,
    "api": BASE | {"store", "sae"},
    "paper": BASE | {"paper", "store"},
    "cli": BASE | {"jobs", "steps", "store", "launch", "paper", "scale"},
    "ui": BASE
    | {"ui", "paper", "store", "jobs", "cohorts", "reading"},  # cohorts: the one decoder, for the viewer (decision 055)
    "app": BASE | {"ui", "store", "jobs", "reading"},
}
FILES = sorted([*ROOT.glob("medsae/**/*.py"), *ROOT.glob("pages/*.py"), ROOT / "app.py", ROOT / "web.py"])


def room(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "medsae" and len(parts) > 1 else "app"


DYNAMIC = {"medsae/plugins.py", "medsae/steps/__init__.py", "medsae/encoders/__init__.py"}
"""Files that may import a module whose name is not written out where it is imported."""


def imported(path: Path) -> set[str]:
    """Dotted names of everything that a file imports: at its head, inside a function, or by a name in a string."""
    return names_in(path.read_text(), str(path.relative_to(ROOT)))


def names_in(source: str, file: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide the room"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__", "run_module"):
                said = node.args[0] if node.args else None
                if isinstance(said, ast.JoinedStr) and said.values:
                    said = said.values[0]
                if isinstance(said, ast.Constant) and isinstance(said.value, str) and "." in said.value + ".":
                    names.add(said.value.rstrip("."))
                else:
                    assert file in DYNAMIC, f"{file}: {called} of a name that is not written out"
            for keyword in node.keywords:  # an offer's load="package.module:attribute" (medsae.plugins)
                if isinstance(keyword.value, ast.Constant) and re.fullmatch(
                    r"medsae(\.\w+)+:\w+", str(keyword.value.value)
                ):
                    names.add(str(keyword.value.value).partition(":")[0])
    return names


@pytest.mark.parametrize(
    "source",
    [
        "import medsae.scoring.entropy",
        "from medsae.scoring import entropy",
        "def f():\n    from medsae.scoring.entropy import entropies",
        "import_module('medsae.scoring.entropy')",
        "importlib.import_module(f'medsae.scoring.{x}')",
        "__import__('medsae.scoring')",
        "Offer(load='medsae.scoring.entropy:entropies')",
    ],
)
def test_no_way_of_importing_goes_unseen(source):
    assert any(name.startswith("medsae.scoring") for name in names_in(source, "x.py"))


def test_a_module_whose_name_is_computed_is_refused():
    with pytest.raises(AssertionError, match="not written out"):
        names_in("import_module('.'.join(words))", "medsae/store/reader.py")


@pytest.mark.parametrize("path", [f for f in FILES if f.name not in ("__main__.py",)], ids=lambda p: str(p.name))
def test_imports_point_one_way(path):
    here = room(path)
    if here == "__init__":
        return
    used = {name.split(".")[1] for name in imported(path) if name.startswith("medsae.")} - {"__version__"}
    if path.name == "simulated.py" and path.parent.name == "offered":
        used -= {"steps"}  # a source that draws its pictures names the step that does so; only `steps` loads it
    assert used <= MAY_IMPORT[here], f"{path.relative_to(ROOT)} imports {sorted(used - MAY_IMPORT[here])}"


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_no_circle_of_imports():
    """Neither at the head of a file nor inside a function: two modules that need each other are one."""
    modules = {module(path): path for path in FILES}
    edges = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                node.body = [ast.Pass()]  # annotations only
        seen = {f"{node.module}.{alias.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                for alias in node.names}  # fmt: skip
        edges[name] = {one if one in modules else one.rpartition(".")[0] for one in seen} & set(modules) - {
            name,
            "medsae",
        }
    # What is imported by nothing that is left, and what imports nothing that is left, is on no circle.
    left = set(edges)
    while ends := {n for n in left if not edges[n] & left or not any(n in edges[other] for other in left)}:
        left -= ends
    assert not left, f"these import each other: {sorted(left)}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.name))
def test_no_function_takes_more_than_eight_arguments(path):
    """What belongs together is a dataclass."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            many = [argument.arg for argument in named if argument.arg not in ("self", "cls")]
            assert len(many) <= 8, f"{path.relative_to(ROOT)}: {node.name}({', '.join(many)})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.name))
def test_only_the_pages_import_streamlit_and_only_the_store_opens_duckdb(path):
    packages = {name.split(".")[0] for name in imported(path)}
    assert "streamlit" not in packages or room(path) in ("ui", "app")
    if "duckdb" in packages:
        assert room(path) in ("store", "steps"), "steps write through a connection that the store opened"
        assert "duckdb.connect(" not in path.read_text() or room(path) == "store"
    if room(path) in ("ui", "app"):
        # The store's Reader names a file that is damaged while it is read; a connection of one's own takes the page down.
        assert ".connect(" not in path.read_text(), f"{path.name} asks tables past the Reader"


WEB = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in FILES
    if room(path) in ("ui", "store", "jobs", "config", "cli", "plugins", "launch", "scale", "api")
    or path.parent.name == "offered"
)


def test_the_server_and_the_quick_commands_load_no_torch(without_torch):
    """Every module of the web process and of `list`, `show` and `--help`, and every registered offer, imported in a
    fresh process in which torch and transformers cannot be imported (pages: tests/app/test_no_torch.py)."""
    code = """
        import importlib, json
        problems = []
        for name in json.loads(sys.argv[1]):
            try:
                importlib.import_module(name)
            except Forbidden as asked:
                problems.append(f"{name} imports {asked}")
        print(json.dumps(problems))
    """
    assert json.loads(without_torch(code, json.dumps(WEB)).splitlines()[-1]) == []
    assert {"medsae.ui.cards", "medsae.ui.study", "medsae.store.reader", "medsae.jobs"} <= set(WEB)


def test_the_first_page_loads_no_scipy(without_torch):
    """It took a sixth of the time until a server's first page; what needs it imports it when it is asked."""
    code = """
        import medsae.ui.study, medsae.ui.overview_parts
        print("scipy" in sys.modules)
    """
    assert without_torch(code).splitlines()[-1] == "False"


@pytest.mark.parametrize("path", sorted((ROOT / "tests/browser").glob("*.py")), ids=lambda p: p.name)
def test_what_a_browser_shows_is_waited_for(path):
    """A page arrives in pieces: a count that is taken at once fails on a slow machine. `expect` waits."""
    at_once = re.compile(r"assert\b.*\.(?:count|is_visible|is_checked|is_enabled|is_disabled)\(\)")
    for line in path.read_text().splitlines():
        assert not at_once.search(line), line.strip()


def test_the_project_speaks_of_itself_alone():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    registry = "|".join(("pypi" + r"\.org", "files" + r"\.pythonhosted", "download" + r"\.pytorch"))
    forbidden = re.compile(rf"/work/(?:{'main'}|shared)|/tmp/(?:{'team'})|{registry}")
    for name in tracked.stdout.splitlines():
        path = ROOT / name
        if path.suffix in (".py", ".md", ".txt", ".toml", ".sql", ".jinja", ".yaml", ".yml", "") and path.is_file():
            hit = forbidden.search(path.read_text(errors="ignore"))
            assert hit is None, f"{name}: {hit and hit.group()}"
