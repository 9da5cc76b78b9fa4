"""The job array of docs/how-to/slurm.md, run as it stands, with the array's variables set by a loop."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/slurm.md"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.long
def test_the_job_array_runs_as_written(medsae, write_chexpert, tmp_path):
    script, submit, *rest = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.S)
    assert script.startswith("#!/bin/bash\n#SBATCH --array=1-4") and not rest
    cohort = medsae.id("ingest", "chexpert", "--root", write_chexpert(tmp_path, patients=12))
    here = tmp_path / "bin"
    here.mkdir()
    (here / "medsae").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m medsae "$@"\n')
    (here / "medsae").chmod(0o755)
    (tmp_path / "embed.sh").write_text(script.replace("/shared/medsae", str(medsae.data)))
    around = os.environ | {"PATH": f"{here}:{os.environ['PATH']}", "PYTHONPATH": str(PAGE.parents[2]), "COHORT": cohort,
                           "ENCODER": "simclip", "SLURM_ARRAY_TASK_COUNT": "2"}  # fmt: skip
    for i in ("1", "2"):
        done = subprocess.run(["bash", "-e", tmp_path / "embed.sh"], env=around | {"SLURM_ARRAY_TASK_ID": i},
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stderr
    (merge,) = re.findall(r'--wrap "medsae (.*?)"', submit)
    assert medsae.id(*merge.replace("ID", cohort).split()).startswith("simclip-chexpert-")
