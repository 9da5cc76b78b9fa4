"""The short form of `make faults`: a few of each kind of fault in a process of its own; every fault was met, none failed."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_a_few_faults_of_each_kind():
    program = Path(__file__).with_name("run.py")
    done = subprocess.run([sys.executable, str(program), "--short"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "0 of them with failures" in done.stdout, done.stdout + done.stderr[-3000:]
    for what in (
        "SIGKILL in train",
        "file-size limit",
        "flips and cuts: artifacts",
        "flips and cuts: ledger",
        "sessions",
        "bad pictures",
    ):
        assert what in done.stdout
