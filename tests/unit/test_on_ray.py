"""`--on ray`: without the package, words that do not fit, what a node is asked, and a part that is stopped.

The cluster itself: tests/unit/test_ray_cluster.py, which needs the extra."""

import os
import signal
import subprocess
import sys
import threading
import time
import types
from dataclasses import replace
from pathlib import Path

import pytest

from medsae import cluster, jobs, seals
from medsae import config as c
from medsae.cluster import on_ray, part
from medsae.cluster.part import Broken, Done, Seen, Stopped, Task
from medsae.progress import Silent, UserError
from medsae.scoring import threads
from medsae.store.artifacts import Store, versions

ROOT = Path(__file__).parents[2]
EMBED = ("embed", "--cohort", "x", "--encoder", "simclip")


def test_without_the_package_it_says_how_to_get_it(medsae, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    status, out, err = medsae(*EMBED, "--on", "ray")
    assert status == 2 and not out and "pip install 'medsae[cluster]'" in err and "Traceback" not in err
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not list((medsae.data / "artifacts").glob("*/.building-*"))


def test_ray_is_imported_by_nothing_but_its_use():
    code = "import sys, medsae.cluster.on_ray, medsae.cli, medsae.steps, medsae.api; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    for path in ROOT.glob("medsae/**/*.py"):
        text = path.read_text()
        assert path.name == "on_ray.py" or ("import ray" not in text and "from ray" not in text), path
    lines = (ROOT / "medsae/cluster/on_ray.py").read_text().splitlines()
    assert all(line.startswith("    ") for line in lines if line.strip().startswith(("import ray", "from ray")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*EMBED, "--on", "slurm"), "--on slurm is no cluster"),
        ((*EMBED, "--on", "ray://"), "--on ray:// is no cluster"),
        ((*EMBED, "--on", "ray", "--shard", "1/2"), "--shard and --on exclude each other"),
        ((*EMBED, "--shards", "2"), "--shards goes with --on ray"),
        ((*EMBED, "--gpus-per-shard", "1"), "--gpus-per-shard goes with --on ray"),
        ((*EMBED, "--on", "ray", "--shards", "0"), "--shards 0 must be at least 1"),
        (("embed", "--cohort", "x", "--from", "x.npy", "--on", "ray"), "--on goes with --encoder"),
        (("train", "--embeddings", "x", "--on", "ray"), "--on goes with --sweep"),
        (("name", "--scores", "x", "--watch", "--on", "ray"), "--on does not go with --watch"),
        (("name", "--scores", "x", "--all", "--cost", "--on", "ray"), "leave --on out"),
        (("merge", *EMBED, "--on", "ray"), "--on merges by itself"),
    ],
)
def test_words_that_do_not_fit(words, said, medsae):
    status, _, err = medsae(*words)
    assert status == 2 and said in err


def test_the_cluster_is_no_part_of_the_question():
    one = c.Embed(cohort="x", encoder="simclip")
    other = c.Embed(cohort="x", encoder="simclip", on="ray", shards=4, gpus_per_shard=0.5)
    assert c.record(one) == c.record(other)
    said = " ".join(c.command_line(other))
    assert "--on ray" in said and "--shards 4" in said and "--gpus-per-shard 0.5" in said
    sweep = c.Train(embeddings="x", sweep="k=2,4", on="ray", shards=2)
    assert all(one.on is None and one.shards is None for one in sweep.swept())


HERE = versions()


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (Seen("n", "t", HERE), None),
        (Seen("n", None, HERE), "does not see this data folder"),
        (Seen("n", "other", HERE), "sees another folder under this path"),
        (Seen("n", "t", {**HERE, "torch": "1.0"}), f"other versions: torch 1.0 there, {HERE['torch']} here"),
        (Seen("n", "t", {k: v for k, v in HERE.items() if k != "scipy"}), "scipy none there"),
        (Seen("n", "t", {**HERE, "streamlit": "0"}), None),
        (Seen("n", None, {}, "cannot run this program (No module named 'medsae')"), "No module named 'medsae'"),
    ],
)
def test_a_node_that_cannot_take_part_is_named(seen, said):
    why = part.foreign(seen, "t", HERE)
    assert why == said or (said and why and said in why)
    if said:
        with pytest.raises(UserError, match=r"1 of 2 nodes cannot take part: n: .*") as error:
            cluster._refuse_foreign([seen, Seen("good", "t", HERE)], "t")
        assert said in str(error.value) and "nothing was begun" in str(error.value)


def test_shards_of_other_weights_are_named():
    ends = [Done("a", 0, "simclip-x-1", None, ""), Done("b", 0, "simclip-x-2", None, "")]
    with pytest.raises(UserError, match=r"other weights or files: .*simclip-x-1 on a; simclip-x-2 on b"):
        cluster._refuse_other_questions(c.Embed(cohort="x", encoder="simclip"), ends)
    cluster._refuse_other_questions(c.Embed(cohort="x", encoder="simclip"), ends[:1])
    cluster._refuse_other_questions(c.Train(embeddings="x", sweep="k=2,4"), ends)


NODE = {"Alive": True, "NodeID": "1", "NodeManagerHostname": "n"}


class FakeRay:
    def __init__(self, *resources):
        self.resources = resources

    def nodes(self):
        return [{**NODE, "Resources": r} for r in self.resources]


@pytest.mark.parametrize(
    ("resources", "options", "wants", "expected"),
    [
        (({"CPU": 4.0}, {"CPU": 2.0}), {}, True, (1.0, 0.0, 6, 2)),
        (({"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}), {}, True, (4.0, 1.0, 4, 1)),
        (({"CPU": 16.0, "GPU": 4.0}, {"CPU": 8.0}), {}, False, (1.0, 0.0, 24, 2)),
        (({"CPU": 16.0, "GPU": 2.0},), {"gpus_per_shard": 0.5}, True, (4.0, 0.5, 4, 1)),
        (({"CPU": 8.0}, {}), {"cpus_per_shard": 3.0}, False, (3.0, 0.0, 2, 1)),
    ],
)
def test_what_a_shard_gets(resources, options, wants, expected):
    config = c.Embed(cohort="x", encoder="simclip", on="ray", **options)
    share = on_ray.Engine(FakeRay(*resources), own=False).share(config, wants)
    assert (share.cpus, share.gpus, share.slots, share.nodes) == expected


@pytest.mark.parametrize(
    ("on", "variable"), [("ray://127.0.0.1:1", ""), ("ray", "127.0.0.1:1"), ("ray", "ray://127.0.0.1:1")]
)
def test_a_cluster_that_is_named_and_not_there_is_refused_at_once(on, variable, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_ADDRESS", variable)
    asked = types.ModuleType("ray")
    asked.__dict__["init"] = lambda **options: pytest.fail("Ray would try for minutes, or start another")
    monkeypatch.setitem(sys.modules, "ray", asked)
    refused = pytest.raises(UserError, match=r"no Ray cluster answers: nothing listens there")
    with refused as error, on_ray.cluster(on, Silent(), tmp_path / "log"):
        pass
    assert "127.0.0.1:1" in str(error.value.where)


def test_without_a_cluster_one_of_this_machine_is_started(monkeypatch):
    monkeypatch.setenv(on_ray.NICENESS, "")
    del os.environ[on_ray.NICENESS]
    asked = []

    def init(address, **options):
        asked.append((address, options.get("include_dashboard")))
        if address == "auto":
            raise ConnectionError

    assert on_ray._connect(types.SimpleNamespace(init=init), "") is True
    assert asked == [("auto", None), ("local", False)], "without a dashboard"
    assert os.environ[on_ray.NICENESS] == "0", "its tasks are as nice as this command, not nicer"


def test_a_start_that_takes_too_long_is_told_in_words():
    def init(address, **options):
        raise ConnectionError if address == "auto" else Exception("The current node timed out during startup.")

    with pytest.raises(UserError, match="timed out during startup") as error:
        on_ray._connect(types.SimpleNamespace(init=init), "")
    assert "nothing was begun" in str(error.value)


def test_a_cluster_of_this_machine_alone_is_not_asked_what_it_is(engine, monkeypatch, tmp_path):
    """A look starts a process on every node and takes seconds."""
    config = c.Embed(cohort="x", encoder="simclip", on="ray", shards=1)
    asked = []
    monkeypatch.setattr(engine, "look", lambda task, share: asked.append(engine.own) or [])
    for own in (True, False):
        engine.own = own
        with pytest.raises(UserError, match="no cohort with the id 'x'"):
            cluster.run(config, Store(tmp_path), Silent())
    assert asked == [False]


def test_on_a_machine_alone_the_merge_has_all_its_cores(engine, monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(engine, "submit", lambda tasks, share: given.append((share, tasks[0].threads)) or Made(tasks))
    for own in (True, False):
        engine.own = own
        cluster.run(c.Embed(cohort="x", encoder="simclip", on="ray", shards=2), Store(tmp_path), Silent())
    assert [(share.cpus, share.slots, threads) for share, threads in given] == [
        (1, 2, 1), (2, 1, 2), (1, 2, 1), (1, 2, 1)]  # fmt: skip


def test_a_shard_takes_no_more_cores_than_it_was_given(monkeypatch):
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for asked, cores in (("", 8), ("2", 2), ("64", 8), ("0", 8), ("4,2", 8)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert threads._cores() == cores, asked


def test_more_than_any_node_has_is_refused():
    config = c.Embed(cohort="x", encoder="simclip", on="ray", gpus_per_shard=1)
    with pytest.raises(UserError, match=r"no node has what a shard needs: 1 CPU and 1 GPU"):
        on_ray.Engine(FakeRay({"CPU": 8.0}), own=False).share(config, True)


def task(folder: Path, *words: str, token="t") -> Task:
    (folder / "token").write_text("t")
    return Task(words, folder / "1-of-1", folder / "token", token, versions(), str(folder), 1)


def test_a_part_tells_what_it_came_to(tmp_path):
    done = part.make(task(tmp_path, "list", "--data", str(tmp_path / "data")))
    assert done.status == 0 and done.error is None and done.host
    refused = part.make(task(tmp_path, *EMBED, "--shard", "1/2", "--data", str(tmp_path / "data")))
    assert refused.status == 2 and "no cohort with the id 'x'" in (refused.error or "")
    assert seals.read(tmp_path / "1-of-1/end.json")["state"] == "failed"
    assert jobs.Jobs(tmp_path / "data").list() == [], "a part is no job of its own"
    assert part.hosts(task(tmp_path)) == [done.host] * 2


@pytest.mark.parametrize(("gpus", "seen"), [(0.0, ""), (0.5, "3")])
def test_a_part_sees_the_gpus_that_are_its_own(gpus, seen, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # as Ray leaves it in a worker
    around = part._environment(replace(task(tmp_path, "list"), gpus=gpus, threads=4))
    assert around["CUDA_VISIBLE_DEVICES"] == seen and around["OMP_NUM_THREADS"] == "4"


@pytest.mark.parametrize(
    ("on", "token", "mode"), [("ray://h:1", True, "token"), ("ray://h:1", False, None), ("", True, None)]
)
def test_the_client_sends_the_token_where_there_is_one(on, token, mode, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    if token:
        (tmp_path / ".ray").mkdir()
        (tmp_path / ".ray/auth_token").write_text("t")
    on_ray._ray(on)
    assert os.environ.get("RAY_AUTH_MODE") == mode and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_a_part_on_a_node_of_other_versions_does_nothing(tmp_path):
    done = part.make(task(tmp_path, "list", token="another"))
    assert done.status == 2 and "sees another folder" in (done.error or "") and not (tmp_path / "1-of-1").exists()


def test_a_part_ends_with_the_run_and_a_killed_one_is_done_again(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], stdin=subprocess.PIPE)
    assert part._watched(killed, tmp_path / "stop") == -signal.SIGKILL
    with pytest.raises(Broken, match="signal 9"):
        (tmp_path / "1-of-1").mkdir()
        for name in ("out", "log"):
            (tmp_path / "1-of-1" / name).write_text("")
        part._done(task(tmp_path), "n", -9)
    code = (
        "import sys, time; from pathlib import Path; from medsae import jobs\n"
        "with jobs.running(Path(sys.argv[1]), ['embed']):\n"
        "    Path(sys.argv[1], 'up').touch()\n    time.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                             env=os.environ | {jobs.PART: str(tmp_path / "p"), "PYTHONPATH": str(ROOT)})  # fmt: skip

    def stop():
        while not (tmp_path / "up").exists():
            time.sleep(0.01)
        (tmp_path / "stop").touch()

    threading.Thread(target=stop).start()
    with pytest.raises(Stopped):
        part._watched(child, tmp_path / "stop")
    assert child.returncode not in (0, None, -9)
    assert seals.read(tmp_path / "p/end.json")["state"] == "cancelled", "it ended as on Ctrl-C"
    with pytest.raises(Stopped):
        part.make(task(tmp_path, "list"))
    assert part.hosts(task(tmp_path)) == [], "nothing was begun"


class Engine:
    """Makes tasks here, one after another: what the run says and returns."""

    own = False

    def __init__(self, slots=2, ends=None):
        self.slots, self.ends, self.words = slots, ends, []

    def share(self, config, wants_gpu):
        return on_ray.Share(1, 0, config.shard_retries, self.slots, 1)

    def look(self, task, share):
        return [part.look(task)]

    def submit(self, tasks, share):
        self.words += [" ".join(t.words) for t in tasks]
        return Now(tasks, self.ends)


class Now:
    def __init__(self, tasks, ends):
        self.tasks, self.ends, self.stopped = tasks, ends, False

    def ended(self, seconds):
        for each in self.tasks:
            if self.ends is not None:
                raise self.ends
            (done,) = [part.make(each)]
            if done.error is not None:
                raise UserError(done.error)
            yield [done]

    def stop(self):
        self.stopped = True


class Made(Now):
    """Every command goes well and says {}."""

    def __init__(self, tasks):
        super().__init__(tasks, None)

    def ended(self, seconds):
        yield [part.Done("host", 0, "id", None, "{}") for _ in self.tasks]


@pytest.fixture
def engine(monkeypatch):
    from contextlib import nullcontext

    made = Engine()
    monkeypatch.setattr(on_ray, "cluster", lambda on, progress, log: nullcontext(made))
    return made


class Said(Silent):
    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines.append(message)


@pytest.mark.long
def test_the_shards_and_their_merge_are_the_commands_by_hand(engine, tmp_path, write_chexpert, medsae):
    cohort = medsae.id("ingest", "chexpert", "--root", write_chexpert(tmp_path, patients=12))
    said = Said()
    found = cluster.run(c.Embed(cohort=cohort, encoder="simclip", on="ray", shards=2), Store(medsae.data), said)
    plain = f"embed --cohort {cohort} --encoder simclip --workers 1"
    asked = [f"{plain} --shard 1/2", f"{plain} --shard 2/2", f"merge {plain} --json"]
    assert [set(words.split()) for words in engine.words] == [{*a.split(), "--data", str(medsae.data)} for a in asked]
    assert Store(medsae.data).get(found["id"]).manifest == found
    assert not [line for line in said.lines if line.startswith("shard ")] and len(said.lines) == len(set(said.lines))
    assert not list((medsae.data / "cache/cluster").glob("embed-*")), "nothing is left of a run that went well"


@pytest.mark.parametrize("end", [KeyboardInterrupt(), UserError("mend me")])
def test_a_stopped_run_stops_its_parts(engine, end, tmp_path):
    engine.ends = end
    store = Store(tmp_path)
    with pytest.raises(type(end)):
        cluster.run(c.Embed(cohort="x", encoder="simclip", on="ray"), store, Silent())
    (folder,) = (tmp_path / "cache/cluster").glob("embed-*")
    assert (folder / part.STOP).exists()
    engine.ends = UserError("again")
    with pytest.raises(UserError, match="again"):
        cluster.run(c.Embed(cohort="x", encoder="simclip", on="ray"), store, Silent())


def test_the_same_command_twice_at_once_is_refused(engine, tmp_path):
    store, plain = Store(tmp_path), c.Embed(cohort="x", encoder="simclip")
    with cluster._folder(store, plain), pytest.raises(UserError, match="the same command is on its way already"):
        cluster.run(c.Embed(cohort="x", encoder="simclip", on="ray"),
                    store, Silent())  # fmt: skip


def test_what_the_parts_say_is_told_once_and_a_new_start_is_named(tmp_path):
    said = Said()
    tasks = [task(tmp_path, "list")]
    tasks = [
        Task(t.words, tmp_path / name, *list(t.__dict__.values())[2:]) for t in tasks for name in ("1-of-2", "2-of-2")
    ]
    for one, done in zip(tasks, (3, 5), strict=True):
        one.folder.mkdir()
        (one.folder / "progress.json").write_text(seals.text({
            "what": "encoding", "done": done, "total": 10, "seconds_left": 60.0 * done,
            "messages": ["a line", "shard 1/2 is done; when all are: medsae merge"]}))  # fmt: skip
        (one.folder / "hosts").write_text("node7\n")
    watch = cluster._Watch(tasks, said)
    assert watch.look() == {"running": 2, "encoding": "8/20", "left": "300 s"}
    assert said.lines == ["a line"]
    (tasks[1].folder / "hosts").write_text("node7\nnode8\n")
    watch.look()
    watch.look()
    assert said.lines[1:] == ["2-of-2: its node or its process is gone (it was on node7); it goes on from what is "
                              "finished, on node8"]  # fmt: skip
