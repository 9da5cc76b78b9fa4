"""A real Ray cluster of two nodes on this machine: the same artifacts, a node that is killed, nodes that do not belong.

Needs the extra (`pip install 'medsae[cluster]'`); without it everything here is skipped.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medsae.store.artifacts import Store

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))
from alike import same, same_names  # pyright: ignore[reportMissingImports]

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
pytest.importorskip("ray", reason="ray is not installed: pip install 'medsae[cluster]'")
pytestmark = pytest.mark.filterwarnings("ignore")

ROOT = Path(__file__).parents[2]
STUCK = """
import os, sys, time
if "MEDSAE_PART" in os.environ and os.environ.get("STUCK"):
    seen = []
    def stick(event, args):
        if event == "os.rename" and str(args[1]).endswith(".npz"):
            seen.append(args)
            if len(seen) == 2:
                open(os.environ["STUCK"], "w").close()
                time.sleep(600)
    sys.addaudithook(stick)
"""
"""On a node that will be killed: a command stops for ever where it would finish its second piece."""
BLIND = """
import sys
def blind(event, args):
    if event == "open" and str(args[0]).endswith("/token"):
        raise FileNotFoundError(args[0])
sys.addaudithook(blind)
"""
"""On a node that does not see the data folder."""


@pytest.fixture
def nodes():
    """Starts a cluster: its head has one CPU and so has each further node, with variables of its own."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield cluster
    cluster.shutdown()


def node(cluster, folder: Path, code: str | None = None, **variables: str):
    folder.mkdir()
    if code:
        (folder / "sitecustomize.py").write_text(code)
    found = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(folder), **variables})
    cluster.wait_for_nodes()
    return found


def start(data: Path, *words: object, address: str | None = None) -> subprocess.Popen[str]:
    around = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    around |= {"RAY_ADDRESS": address} if address else {}
    command = [sys.executable, "-m", "medsae", *map(str, words), "--data", str(data)]
    return subprocess.Popen(command, env=around, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(child: subprocess.Popen[str], status: int = 0) -> tuple[str, str]:
    """The last line of stdout, and stderr, of a command that ends with this status."""
    out, err = child.communicate(timeout=240)
    assert child.returncode == status, err
    assert len(out.splitlines()) == (not status), "stdout carries the result alone"
    return out.strip(), err


def until(found, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


def test_two_nodes_make_what_one_machine_makes_though_one_is_killed(nodes, write_chexpert, tmp_path):
    alone, many = tmp_path / "alone", tmp_path / "many"
    root = write_chexpert(tmp_path / "pictures", patients=700)
    cohort = ended(start(many, "ingest", "chexpert", "--root", root))[0]
    (alone / "artifacts").mkdir(parents=True)
    subprocess.run(["cp", "-r", str(many / "artifacts"), str(alone)], check=True)
    embed = ("embed", "--cohort", cohort, "--encoder", "simclip")
    embeddings = ended(start(alone, *embed))[0]
    (many / "cache/encoders").mkdir(parents=True, exist_ok=True)  # what is fastest here is chosen by the clock: once
    for choices in (alone / "cache/encoders").glob("choices.json"):
        (many / "cache/encoders/choices.json").write_bytes(choices.read_bytes())
    stuck = tmp_path / "stuck"
    second = node(nodes, tmp_path / "second", STUCK, STUCK=str(stuck))

    child = start(many, *embed, "--on", "ray", address=nodes.address)
    until(lambda: len(list((many / "cache/cluster").glob("*/*-of-2/hosts"))) == 2)
    child.send_signal(signal.SIGINT)
    assert "what is finished is kept" in ended(child, 130)[1]
    assert not list((many / "artifacts").glob("embeddings/[!.]*")), "nothing half published"
    assert ended(start(many, *embed, "--on", "ray", address=nodes.address))[0] == embeddings
    same(Store(alone).get(embeddings), Store(many).get(embeddings))

    score = ("score", "--embeddings", embeddings, "--representation", "raw", "--images", "all", "--no-maps",
             "--draws", 120, "--bootstraps", 40)  # fmt: skip
    scores = ended(start(alone, *score))[0]
    child = start(many, *score, "--on", "ray", address=nodes.address)
    until(stuck.exists)
    nodes.remove_node(second, allow_graceful=False)
    id, said = ended(child)
    assert id == scores and "its node or its process is gone" in said
    same(Store(alone).get(scores), Store(many).get(scores))

    subprocess.run(
        ["rm", "-r", str(alone / "artifacts/scores")], check=True
    )  # a run of names is about these very scores
    subprocess.run(["cp", "-r", str(many / "artifacts/scores"), str(alone / "artifacts")], check=True)
    name = ("name", "--scores", scores, "--neurons", ",".join(map(str, range(80))), "--pictures", 5)
    assert ended(start(alone, *name))[0] == scores
    nodes.wait_for_nodes()  # until the cluster knows that the killed one is gone
    assert ended(start(many, *name, "--on", "ray", "--shards", 2, address=nodes.address))[0] == scores
    assert len(same_names(alone, many, scores)) == 80


def test_nodes_that_do_not_belong_are_named_and_nothing_begins(nodes, write_chexpert, tmp_path):
    data = tmp_path / "data"
    cohort = ended(start(data, "ingest", "chexpert", "--root", write_chexpert(tmp_path / "pictures", patients=12)))[0]
    node(nodes, tmp_path / "blind", BLIND)
    other = tmp_path / "other"
    node(nodes, other)
    (other / "torch-1.0.dist-info").mkdir()
    (other / "torch-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    words = ("embed", "--cohort", cohort, "--encoder", "simclip", "--on", "ray")
    out, err = ended(start(data, *words, address=nodes.address), 2)
    assert not out and "2 of 3 nodes cannot take part" in err and "Traceback" not in err
    assert "does not see this data folder" in err and "other versions: torch 1.0 there" in err
    assert not (data / "artifacts/embeddings").exists(), "nothing was begun"
    out, err = ended(start(data, *words, "--gpus-per-shard", 1, address=nodes.address), 2)
    assert "no node has what a shard needs: 1 CPU and 1 GPU" in err
    out, err = ended(start(data, *words, address="127.0.0.1:1"), 2)
    assert "no Ray cluster answers" in err and "Traceback" not in err
