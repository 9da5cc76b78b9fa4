"""What a GPU needs of a step, asserted without one: nothing in it waits for the device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from medsae import config
from medsae.progress import Silent
from medsae.sae.normalise import Normalisation
from medsae.sae.stream import batch_of
from medsae.sae.training import Member, Workspace, wait_for

N, D, M = 32, 8, 32
OPTIONS: dict[str, dict[str, Any]] = {
    "relu": dict(kind="relu", l1=0.1),
    "weighted": dict(kind="relu", l1=0.1, decoder_norm="weighted"),
    "gated": dict(kind="gated", l1=0.1),
    "jumprelu": dict(kind="jumprelu", l0=0.1),
}
READS = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal")


class Watch(TorchDispatchMode):
    """Fails at an operation that hands numbers from the device to the program, or the other way: both wait on CUDA."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen += 1
        name = func.overloadpacket.__name__
        assert not name.startswith(READS), f"{func} waits for the device"
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            kinds = {i.dtype for i in args[1] if i is not None}
            assert torch.bool not in kinds, f"{func} by a mask waits for the device"
        out = func(*args, **(kwargs or {}))
        if name in ("_to_copy", "copy_") and isinstance(out, torch.Tensor):
            source = args[1] if name == "copy_" else args[0]
            assert source.device == out.device, f"{func} from {source.device} to {out.device} waits for the device"
        return out


def on_meta(name: str, folder: Path) -> Member:
    """A training on the meta device: shapes, kinds and the branches of a GPU's tensors, and no numbers to read."""
    options = config.Train(embeddings="e", expansion=M // D, epochs=1, lr=1e-3, batch=N, **OPTIONS[name]).resolved(
        2 * N
    )
    device = torch.device("meta")
    normalisation = Normalisation(torch.zeros(D).numpy(), 1.0)
    x_nd = torch.empty(2 * N, D, device=device)
    return Member(options, x_nd, normalisation, Workspace(N, D, M, device), folder, Silent())


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_waits_for_nothing(name, tmp_path):
    member, x_nd = on_meta(name, tmp_path), torch.empty(2 * N, D, device="meta")
    order_n = torch.empty(2 * N, dtype=torch.int64, device="meta")
    with Watch() as watch:
        for number in range(2):
            member.step(x_nd[batch_of(order_n, number, 2)], None)
    assert member.steps == 2 and watch.seen > 40
    assert all(v.device.type == "meta" for v in member.trainer.state().values()), "something is kept off the device"


@pytest.mark.parametrize("what", [
    lambda v: float(v.sum()), lambda v: bool((v > 0).any()), lambda v: v[v > 0], lambda v: (v > 0).nonzero(),
    lambda v: v.masked_select(v > 0), lambda v: v.index_put_((v > 0,), torch.arange(2.0)),
    lambda v: torch.empty(2, device="meta").copy_(v),
])  # fmt: skip
def test_the_watch_sees_what_would_wait(what):
    v = torch.tensor([1.0, 2.0])
    with pytest.raises(AssertionError, match="waits for the device"), Watch():
        what(v)


def test_the_wait_for_a_gpu_is_shared_among_those_that_it_worked_for(monkeypatch, tmp_path):
    members = [on_meta("relu", tmp_path / str(i)) for i in range(2)]
    clock, waited = iter((100.0, 106.0)), []
    monkeypatch.setattr("medsae.sae.training.time.monotonic", lambda: next(clock))
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    wait_for(torch.device("cpu"), members)
    assert not waited
    wait_for(torch.device("cuda"), members)
    assert waited == [torch.device("cuda")]
    assert [member.seconds for member in members] == [3.0, 3.0]
