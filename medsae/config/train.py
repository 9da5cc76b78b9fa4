"""`train`: a sparse autoencoder on embeddings, or a sweep of them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from medsae.config.base import Command, OnCluster, Sharded, added, check, runtime
from medsae.config.kinds import KINDS, OPTIONS_OF_KINDS, KindName, SaeKind
from medsae.progress import UserError

TRAIN_PRESETS: dict[str, dict[str, Any]] = {
    # Section 4.1 of the paper; the batch is the default of the authors' code (docs/decisions/002).
    "paper": dict(kind="relu", l1=3e-4, expansion=16, epochs=200, lr=7e-6, batch=1024),
    "demo": dict(kind="topk", k=16, expansion=4, epochs=60, lr=1e-3, batch=256),
}
_IMPLIED = {"l1": "relu", "decoder_norm": "relu", "k": "topk", "l0": "jumprelu"}
"""The kind that is meant where only an option of it is given."""


@dataclass(frozen=True, kw_only=True)
class Train(Sharded, Command):
    """Train a sparse autoencoder on embeddings. `--l1` alone means kind relu, `--k` alone means kind topk."""

    embeddings: str
    """Id (or unique beginning of the id) of the embeddings."""
    preset: Literal["paper", "demo"] = "demo"
    """Where unset options come from: `paper` is section 4.1, `demo` suits some thousand images."""
    kind: KindName | None = None
    """Kind of SAE."""
    l1: float | None = None
    """relu, gated: coefficient of the L1 penalty (lambda)."""
    decoder_norm: Literal["unit", "weighted"] | None = None
    """relu: unit decoder rows, or L1 weighted by the decoder norm."""
    encoder_norm: float | None = None
    """relu: norm of the encoder's rows at the start; 1, or 0.1 for an l1 of 1 or more (docs/decisions/020)."""
    k: int | None = None
    """topk, batchtopk, matryoshka: active neurons an image."""
    l0: float | None = None
    """jumprelu: coefficient of the L0 penalty."""
    expansion: int | None = None
    """Neurons as a multiple of the embedding dimension d (default: the preset's; that of demo is cut so that there are
    no more neurons than training images, docs/decisions/132)."""
    epochs: int | None = None
    """Passes over the training images (default: the preset's; of tokens fewer, so that there are as many steps as of
    whole images, and one at least)."""
    lr: float | None = None
    """Learning rate of Adam."""
    batch: int | None = None
    """Images a step (default: the preset's, cut so that an epoch of a small cohort has at least 8 steps)."""
    seed: int = 0
    """Seed of initialisation and order."""
    sweep: str | None = runtime(None)
    """Values to try, such as "l1=1e-4,3e-4,1e-3 seed=0,1": every combination is trained, scored and compared."""
    untrained: bool = added(False)
    """Not trained: random directions with the norms, thresholds and densities of the SAE that these options give
    (which must be there). The control that a measure must beat."""
    token_memory_mib: int = added(1024)
    """Rows read from disk: memory for those that are shuffled together (MiB); what is trained depends on it."""
    stream_above_mib: int = added(4096)
    """One vector an image: more MiB of training rows than this are not loaded but read from disk again in each epoch,
    as tokens are. What is trained depends on it: rows are shuffled within --token-memory-mib."""
    images: Literal["train", "all"] = "train"
    """Training images: the train split, or every image (then nothing is held out, and it is said)."""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """Where to compute."""

    step = "train"
    makes = "sae"

    def __post_init__(self) -> None:
        Sharded.__post_init__(self)
        check(self.in_parts is None or self.sweep is not None,
              f"{self.in_parts} goes with --sweep: its members are the pieces",
              do="train one SAE on one machine")  # fmt: skip
        check(self.l1 is None or self.l1 >= 0, f"--l1 {self.l1} must not be negative")
        check(self.l0 is None or self.l0 >= 0, f"--l0 {self.l0} must not be negative")
        for name in ("k", "expansion", "epochs", "batch"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"--{name} {value} must be at least 1")
        for name in ("token_memory_mib", "stream_above_mib"):
            value = getattr(self, name)
            check(value >= 1, f"--{name.replace('_', '-')} {value} must be at least 1")
        check(self.encoder_norm is None or self.encoder_norm > 0,
              f"--encoder-norm {self.encoder_norm} must be positive")  # fmt: skip
        check(self.lr is None or self.lr > 0, f"--lr {self.lr} must be positive")

    def resolved(self, images: int, d: int | None = None, tokens: int = 1) -> Train:
        """The config with every None filled, for `images` training rows of d dimensions (None: not known, so many as
        any preset needs), of which `tokens` are of one image; UserError for options of another kind."""
        preset = TRAIN_PRESETS[self.preset]
        implied = (kind for name, kind in _IMPLIED.items() if getattr(self, name) is not None)
        kind = self.kind or next(implied, preset["kind"])
        own: dict[str, Any] = KINDS[kind].defaults | (
            {k: v for k, v in preset.items() if k in OPTIONS_OF_KINDS} if kind == preset["kind"] else {}
        )
        own |= {"l1": preset["l1"]} if kind == "relu" and "l1" in preset else {}
        for name in OPTIONS_OF_KINDS:
            flag = f"--{name.replace('_', '-')}"
            check(getattr(self, name) is None or name in own, f"{flag} does not belong to --kind {kind}",
                  do=f"leave {flag} out, or choose another --kind")  # fmt: skip
        values = {
            name: getattr(self, name) if getattr(self, name) is not None else value for name, value in own.items()
        }
        for name in ("expansion", "epochs", "lr"):
            values[name] = getattr(self, name) if getattr(self, name) is not None else preset[name]
        if self.epochs is None:
            values["epochs"] = max(1, round(values["epochs"] / tokens))
        if self.expansion is None and self.preset == "demo" and d is not None:
            values["expansion"] = max(1, min(values["expansion"], images // d))
        if kind == "relu" and values["encoder_norm"] is None:
            values["encoder_norm"] = 1.0 if values["l1"] < 1 else 0.1
        if self.batch is not None:
            values["batch"] = self.batch
        else:
            values["batch"] = max(1, min(preset["batch"], max(32, images // 8), images))
        return replace(self, kind=kind, **values)

    def swept(self) -> list[Train]:
        """One config a combination of `--sweep`; UserError for an unknown option or a value that is no number."""
        kinds = {
            "l1": float,
            "lr": float,
            "l0": float,
            "k": int,
            "expansion": int,
            "seed": int,
            "epochs": int,
            "batch": int,
        }
        axes: list[list[tuple[str, float]]] = []
        for part in (self.sweep or "").split():
            name, _, values = part.partition("=")
            check(name in kinds, f"--sweep cannot vary {name!r}", do=f"one of {', '.join(kinds)}, as in l1=1e-4,3e-4")
            check(bool(values), f"--sweep {part!r} names no values", do="as in l1=1e-4,3e-4")
            try:
                axes.append([(name, kinds[name](value)) for value in values.split(",")])
            except ValueError as error:
                raise UserError(f"--sweep {part!r}: {error}", None, "as in l1=1e-4,3e-4") from error
        names = [axis[0][0] for axis in axes]
        whole = {"shard": None} | {f.name: f.default for f in fields(OnCluster)}
        check(len(set(names)) == len(names), "--sweep names an option twice")
        return [replace(self, sweep=None, **whole, **dict(values)) for values in itertools.product(*axes)]

    @property
    def sae(self) -> SaeKind:
        """The kind with its own parameters; only of a resolved config."""
        assert self.kind is not None, "resolve the config first"
        cls = KINDS[self.kind]
        return cls(**{f.name: getattr(self, f.name) for f in fields(cls)})
