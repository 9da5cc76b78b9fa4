"""What is imported before a page asks for it."""

import subprocess
import sys

AFTER = """
import sys, threading
{before}
from medsae.ui import early
early.begin()
early.begin()
mine = [t for t in threading.enumerate() if t.name == "early imports"]
assert len(mine) <= 1, mine
[t.join(60) for t in mine]
import gc
print(gc.get_freeze_count() > len(sys.modules), ",".join(sorted(sys.modules)))
"""


def modules_after(before: str = "") -> set[str]:
    source = AFTER.format(before=before)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert not done.stderr
    frozen, _, modules = done.stdout.strip().partition(" ")
    assert frozen == "True", "each collection looks through the modules again"
    return set(modules.split(","))


def test_the_tables_libraries_are_there_and_nothing_that_draws_or_learns():
    found = modules_after()
    assert {"pandas", "duckdb", "medsae.store.reader", "medsae.store.queries", "medsae.store.trained"} <= found
    assert not {"streamlit", "torch", "transformers", "plotly", "scipy"} & {name.partition(".")[0] for name in found}


def test_what_cannot_be_imported_is_left_to_the_page_that_asks():
    """Python takes None for a module that there is not."""
    found = modules_after('sys.modules["medsae.store.concepts"] = None')
    assert "pandas" in found and "medsae.store.trained" not in found
