"""Ray as the engine. The only module that imports ray, and only when it is used.

`ray`: the cluster that this machine belongs to (or that RAY_ADDRESS names), else one of this machine alone, which ends
with the run. `ray://HOST:PORT`: a cluster elsewhere, through Ray's client. Usage statistics are switched off, and no
dashboard is started.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsae.cluster import part
from medsae.cluster.part import Broken, Done, Seen, Stopped, Task
from medsae.progress import Progress, UserError

INSTALL = "pip install 'medsae[cluster]' (ray 2.60)"
NICENESS = "RAY_worker_niceness"
"""How far tasks step back behind all else on a machine; by itself Ray says 15, and on a busy one shards hardly run."""
_OBJECTS = 100 * 2**20
"""Bytes for Ray's own store of objects where we start it: commands and their ends are small."""
_REFUSED = (ConnectionError, RuntimeError, ValueError, ImportError, TimeoutError, OverflowError)
_NODE_SECONDS = 120.0
"""Longest wait for a node to say what it is."""
_REACH_SECONDS = 10.0
_END_SECONDS = 45.0
"""Longest wait for commands that were told to stop."""


@dataclass(frozen=True)
class Share:
    """What one shard gets, and how many the cluster can make at once."""

    cpus: float
    gpus: float
    retries: int
    slots: int
    nodes: int

    @property
    def text(self) -> str:
        gpus = f" and {self.gpus:g} GPU" if self.gpus else ""
        return f"each {self.cpus:g} CPU{gpus}, {self.slots} at once"


@contextlib.contextmanager
def cluster(on: str, progress: Progress, log: Path) -> Iterator[Engine]:
    """A connection to the cluster while the block runs; UserError without ray, and where no cluster answers.

    What Ray prints goes to `log`: it would print to stdout, which carries the result alone.
    """
    address = os.environ.get("RAY_ADDRESS", "") if on == "ray" else on
    ray = _ray(address)
    began = time.monotonic()
    with log.open("w") as said, contextlib.redirect_stdout(said):
        started = _connect(ray, address)
        try:
            what = "started one of this machine alone" if started else f"{len(_alive(ray))} nodes"
            progress.say(f"Ray {ray.__version__}: {what} ({time.monotonic() - began:.1f} s)")
            yield Engine(ray, started)
        finally:
            ray.shutdown()


def _ray(address: str) -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address.startswith("ray://") and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray's client sends no token unless it is told to
    try:
        import ray  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError("--on ray needs the package ray, which is not installed", None, INSTALL) from error
    return ray


def _has_token() -> bool:
    """Whether this user has a token for Ray's clusters, where Ray looks for it."""
    given = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return given or (Path.home() / ".ray" / "auth_token").is_file()


def _connect(ray: Any, address: str) -> bool:
    """Connect to an address, or to the cluster of this machine; whether one was started for it."""
    quiet = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}
    try:
        if address:
            _reach(address)
            ray.init(address=address, **quiet)
            return False
        with contextlib.suppress(ConnectionError):
            ray.init(address="auto", **quiet)
            return False
        os.environ.setdefault(NICENESS, "0")
        ray.init(address="local", include_dashboard=False, object_store_memory=_OBJECTS, **quiet)
        return True
    except Exception as error:
        # A bare Exception is what Ray raises where its own start takes longer than its 30 s.
        if type(error) is not Exception and not isinstance(error, _REFUSED):
            raise
        do = ("look whether its head runs and takes clients (ray start --head; ray://HOST:10001), and whether this "
              "user has its token (~/.ray/auth_token)")  # fmt: skip
        if isinstance(error, ImportError):
            do = INSTALL
        elif not address:
            do = "nothing was begun: give the command again when this machine is less busy, or use --shard i/N"
        said = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise UserError(f"no Ray cluster answers: {said}", address or None, do) from error


def _reach(address: str) -> None:
    """ConnectionError where nothing listens at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
        except OSError as error:
            raise ConnectionError(f"nothing listens there ({error})") from error


def _alive(ray: Any) -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


class Engine:
    """A connected cluster."""

    def __init__(self, ray: Any, own: bool):
        """own: it was started here for this run, and is this machine alone."""
        self.ray, self.own = ray, own

    def share(self, config: Any, wants_gpu: bool) -> Share:
        """What a shard gets: what the config says, else 1 CPU, or a GPU with its part of the CPUs where a shard uses
        one and the cluster has some. UserError where no node has so much."""
        nodes = [node["Resources"] for node in _alive(self.ray)]
        with_gpu = [r for r in nodes if r.get("GPU", 0) >= 1]
        gpus = config.gpus_per_shard
        gpus = gpus if gpus is not None else float(wants_gpu and bool(with_gpu))
        cpus = config.cpus_per_shard
        if cpus is None:
            cpus = max(1.0, min(r.get("CPU", 1) // r["GPU"] for r in with_gpu) * gpus) if gpus and with_gpu else 1.0
        slots = [_slots(r, cpus, gpus) for r in nodes]
        if not sum(slots):
            most = ", ".join(f"{max((r.get(what, 0) for r in nodes), default=0):g} {what}" for what in ("CPU", "GPU"))
            raise UserError(f"no node has what a shard needs: {cpus:g} CPU and {gpus:g} GPU",
                            f"{len(nodes)} nodes, at most {most} each", "give fewer --cpus-per-shard or "
                            "--gpus-per-shard, or add a node")  # fmt: skip
        return Share(cpus, gpus, config.shard_retries, sum(slots), sum(map(bool, slots)))

    def look(self, task: Task, share: Share) -> list[Seen]:
        """What every node that could take a shard says of itself."""
        from ray.util.scheduling_strategies import (  # pyright: ignore[reportMissingImports]
            NodeAffinitySchedulingStrategy,
        )

        nodes = [n for n in _alive(self.ray) if _slots(n["Resources"], share.cpus, share.gpus)]
        remote = self.ray.remote(part.look)
        refs = {}
        for node in nodes:
            there = NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False)
            ref = remote.options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(task)
            refs[ref] = str(node["NodeManagerHostname"])
        self.ray.wait(list(refs), num_returns=len(refs), timeout=_NODE_SECONDS)
        return [self._seen(ref, host) for ref, host in refs.items()]

    def _seen(self, ref: Any, host: str) -> Seen:
        try:
            return self.ray.get(ref, timeout=0)
        except self.ray.exceptions.GetTimeoutError:
            return Seen(host, None, {}, f"did not answer in {_NODE_SECONDS:.0f} s")
        except (self.ray.exceptions.RayError, ImportError, AttributeError) as error:
            last = str(error).strip().splitlines()[-1][:200]
            return Seen(host, None, {}, f"cannot run this program ({last})")

    def submit(self, tasks: list[Task], share: Share) -> Work:
        """Have tasks done; the engine repeats one whose node or process is gone."""
        remote = self.ray.remote(part.make).options(
            num_cpus=share.cpus, num_gpus=share.gpus, max_retries=share.retries, retry_exceptions=[Broken],
        )  # fmt: skip
        return Work(self.ray, {remote.remote(task): task for task in tasks})


def _slots(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """Shards that fit into a node at once."""
    fits = [resources.get("CPU", 0) / cpus]
    return int(min([*fits, resources.get("GPU", 0) / gpus] if gpus else fits))


class Work:
    """Tasks that were submitted."""

    def __init__(self, ray: Any, refs: dict[Any, Task]):
        self.ray, self.refs = ray, refs

    def ended(self, seconds: float) -> Iterator[list[Done]]:
        """What has ended since, at least every so many seconds (then empty), until all have. UserError of the first
        that failed."""
        while self.refs:
            ready, _ = self.ray.wait(list(self.refs), num_returns=1, timeout=seconds)
            done = [self._got(ref) for ref in ready]
            for ref in ready:
                del self.refs[ref]
            yield done

    def _got(self, ref: Any) -> Done:
        task, errors = self.refs[ref], self.ray.exceptions
        name, where = task.folder.name, task.folder / "log"
        kept = "what is finished is kept: mend it, then give the same command again"
        try:
            done: Done = self.ray.get(ref)
        except errors.TaskCancelledError as error:
            raise KeyboardInterrupt from error
        except errors.RayError as error:
            cause = getattr(error, "cause", None)
            said = str(cause or error).strip().splitlines()[-1][:300]
            if isinstance(cause, Stopped):
                raise KeyboardInterrupt from error
            tried = len(part.hosts(task))
            raise UserError(f"shard {name} failed {tried} times: {said}", where, kept) from error
        if done.error is not None:
            raise UserError(f"shard {name} on {done.host}: {done.error}")
        return done

    def stop(self) -> None:
        """Take back what has not begun, and wait a while for what is told to stop."""
        for ref in self.refs:
            with contextlib.suppress(self.ray.exceptions.RayError, TypeError):
                self.ray.cancel(ref, force=False)
        if self.refs:
            self.ray.wait(list(self.refs), num_returns=len(self.refs), timeout=_END_SECONDS)
