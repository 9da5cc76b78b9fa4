"""What is imported before a page asks for it."""

import subprocess
import sys

import pytest

from medsae.ui import early

AFTER = """
import sys
from medsae.ui import early
{before}
early.begin()
early.begin()
import threading
mine = [t for t in threading.enumerate() if t.name == "early imports"]
assert len(mine) <= 1, mine
[t.join(60) for t in mine]
print(",".join(sorted(sys.modules)))
"""


def modules_after(before: str = "") -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", AFTER.format(before=before)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.strip().split(","))


def test_the_tables_libraries_are_there_and_nothing_that_draws_or_learns():
    found = modules_after()
    assert set(early._MODULES) <= found
    assert not {"streamlit", "torch", "transformers", "plotly", "scipy"} & {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("name", ["no_such_module_of_ours", "medsae.no_such"])
def test_what_cannot_be_imported_is_left_to_the_page_that_asks(name):
    assert "medsae.jobs" in modules_after(f"early._MODULES = ({name!r}, *early._MODULES)")
