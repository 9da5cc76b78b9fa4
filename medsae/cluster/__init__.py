"""Shards of a step, made on a cluster that somebody has, and merged there: `--on ray`.

What is submitted are the commands that a person would give by hand (`--shard i/N`, then `merge`), so the artifact is
the one that one machine makes. Nothing is scheduled here: the engine places the commands, repeats those whose node is
gone, and the shared folder tells how far they are.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from medsae import config as c
from medsae import files, seals, shards
from medsae.cluster import on_ray, part
from medsae.cluster.part import Done, Task
from medsae.progress import Progress, UserError
from medsae.store.artifacts import Store, versions

_LOOK_SECONDS = 0.5


def run(config: Any, store: Store, progress: Progress) -> dict[str, Any]:
    """Make the shards of a config on the cluster that its `on` names and merge them there; returns what `merge` says.

    UserError where a node that would be used lacks the data folder or has other versions (before anything is begun),
    and where a shard fails in its own words or more often than `shard_retries` allows. What is finished is kept.
    """
    plain = replace(config, data=None, json=False, **{f.name: f.default for f in fields(c.OnCluster)})
    with _folder(store, plain) as folder, on_ray.cluster(config.on, progress, folder / "ray.log") as engine:
        share = engine.share(config, _wants_gpu(plain))
        token = secrets.token_hex(16)
        files.write(folder / "token", token)
        work = _Work(plain, store, folder, token, share)
        if not engine.own:  # this machine needs no look at itself, which takes seconds
            _refuse_foreign(engine.look(work.task("0-look", []), share), token)
        n = config.shards or share.slots
        progress.say(f"{n} shards on {share.nodes} nodes, {share.text}")
        tasks = [work.task(f"{i}-of-{n}", work.words(f"{i}/{n}")) for i in range(1, n + 1)]
        done = _made(engine, tasks, share, _Watch(tasks, progress), f"{plain.step} on Ray")
        _refuse_other_questions(plain, done)
        words = [*work.words(shards.MERGE), "--json"]
        if engine.own:  # nothing else runs there by now
            share = replace(share, cpus=share.cpus * share.slots, slots=1)
            work = replace(work, share=share)
        merge = [work.task("merge", words)]
        (merged,) = _made(engine, merge, share, _Watch(merge, progress), f"merging {n} shards")
    assert merged.said is not None
    return json.loads(merged.said)


@dataclass(frozen=True)
class _Work:
    """What the commands of one run have in common."""

    plain: Any
    store: Store
    folder: Path
    token: str
    share: on_ray.Share

    @property
    def threads(self) -> int:
        return max(1, int(self.share.cpus))

    def words(self, shard: str) -> list[str]:
        """The command of one shard, or of the merge."""
        config = replace(self.plain, shard=shard)
        if getattr(config, "workers", 0) is None:
            config = replace(config, workers=self.threads)
        return [*c.command_line(config), "--data", str(self.store.data)]

    def task(self, name: str, words: list[str]) -> Task:
        return Task(tuple(words), self.folder / name, self.folder / "token", self.token, versions(), str(Path.cwd()),
                    self.threads, self.share.gpus)  # fmt: skip


@contextlib.contextmanager
def _folder(store: Store, plain: Any) -> Iterator[Path]:
    """Where the commands of one run tell how far they are; emptied before and, where all went well, after it. UserError
    while the same command is on its way from elsewhere."""
    digest = hashlib.sha256(json.dumps(c.command_line(plain)).encode()).hexdigest()[:12]
    folder = files.make_folder(store.cache / "cluster" / f"{plain.step}-{digest}")
    lock = files.take_lock(folder.with_name(f".{folder.name}.lock"))
    if lock is None:
        raise UserError("the same command is on its way already", folder, "wait for it, or stop it")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        yield files.make_folder(folder)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


def _wants_gpu(config: Any) -> bool:
    """Whether a shard would compute on a GPU where it gets one."""
    model = config.step != "name" or config.backend == "medgemma"
    return model and getattr(config, "device", "cpu") in ("auto", "cuda")


def _refuse_foreign(seen: list[part.Seen], token: str) -> None:
    """UserError that names every node which does not see this data folder, or has other versions."""
    here = versions()
    wrong = [(one.host, said) for one in seen if (said := part.foreign(one, token, here)) is not None]
    if wrong:
        told = "; ".join(f"{host}: {said}" for host, said in wrong[:4])
        raise UserError(f"{len(wrong)} of {len(seen)} nodes cannot take part: {told}", None,
                        "every node needs the data folder under the same path and the same versions "
                        "(requirements.txt); nothing was begun")  # fmt: skip


def _refuse_other_questions(plain: Any, done: list[Done]) -> None:
    """UserError where shards have made parts of different artifacts: weights or files differ between nodes."""
    if plain.step == "train":  # each shard makes SAEs of its own
        return
    by_id: dict[str, set[str]] = {}
    for one in done:
        by_id.setdefault(one.result or "", set()).add(one.host)
    if len(by_id) > 1:
        told = "; ".join(f"{id} on {', '.join(sorted(hosts))}" for id, hosts in sorted(by_id.items()))
        raise UserError(f"the nodes have other weights or files: their shards belong to different artifacts: {told}",
                        None, "give every node the same files; nothing was published")  # fmt: skip


def _made(engine: on_ray.Engine, tasks: list[Task], share: on_ray.Share, watch: _Watch, what: str) -> list[Done]:
    """Have commands done; what they came to. On Ctrl-C and on an error all that runs ends in its own way first."""
    done: list[Done] = []
    with watch.progress.task(what, len(tasks), "shards") as bar:
        work = engine.submit(tasks, share)
        try:
            for ended in work.ended(_LOOK_SECONDS):
                done += ended
                bar.advance(len(ended), **watch.look())
        except BaseException:
            (tasks[0].folder.parent / part.STOP).touch()
            work.stop()
            raise
    watch.look()
    return done


class _Watch:
    """Reads how far the commands are, and passes on what they say; the same line of several is said once."""

    def __init__(self, tasks: list[Task], progress: Progress):
        self.tasks, self.progress = tasks, progress
        self.said: set[str] = set()
        self.starts: dict[Path, int] = {}

    def look(self) -> dict[str, float | int | str]:
        """Facts for the bar: what most of them do just now, how far they are together, and the longest time left."""
        states = []
        for task in self.tasks:
            self._say_again(task)
            with contextlib.suppress(OSError, ValueError):
                states.append(seals.read(task.folder / "progress.json"))
        for state in states:
            for line in state.get("messages") or []:
                self._say(str(line))
        now = [s for s in states if s.get("total") and s.get("done", 0) < s["total"]]
        if not now:
            return {}
        done, total = (sum(state[name] for state in now) for name in ("done", "total"))
        left = max((state.get("seconds_left") or 0 for state in now), default=0)
        return {"running": len(now), str(now[0]["what"]): f"{done:,}/{total:,}", "left": f"{left:,.0f} s"}

    def _say(self, line: str) -> None:
        if line not in self.said and not line.startswith("shard "):  # what comes after a shard is done here
            self.said.add(line)
            self.progress.say(line)

    def _say_again(self, task: Task) -> None:
        hosts = part.hosts(task)
        if len(hosts) > max(1, self.starts.get(task.folder, 1)):
            self.progress.say(f"{task.folder.name}: its node or its process is gone (it was on {hosts[-2]}); "
                              f"it goes on from what is finished, on {hosts[-1]}")  # fmt: skip
            self.starts[task.folder] = len(hosts)
