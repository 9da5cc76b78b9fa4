"""A trained sparse autoencoder: weights, kind and normalisation in one safetensors file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from medsae import config
from medsae.progress import UserError
from medsae.sae import kinds
from medsae.sae.gradients import Dense
from medsae.sae.normalise import Normalisation

FORMAT = "medsae-sae-1"
KINDS = {cls.__name__: cls for cls in config.KINDS.values()}


@dataclass(frozen=True)
class Sae:
    """Raw embeddings x_nd -> normalisation -> the kind's formulas -> activations z_nm, and back. A row is a neuron's in
    both weight matrices [m, d]."""

    kind: config.SaeKind
    weights: dict[str, Tensor]
    """float32: W_enc [m, d], b_enc [m], W_dec [m, d], b_pre [d], and what the kind has beside (threshold, ...)."""
    normalisation: Normalisation

    @property
    def m(self) -> int:
        return self.weights["W_enc"].shape[0]

    @property
    def d(self) -> int:
        return self.weights["W_enc"].shape[1]

    @property
    def device(self) -> torch.device:
        return self.weights["W_enc"].device

    def to(self, device: str | torch.device) -> Sae:
        return dataclasses.replace(self, weights={k: v.to(device) for k, v in self.weights.items()})

    def pre_activations(self, x_nd: np.ndarray) -> np.ndarray:
        """Raw embeddings -> float32 [n, m]: W_enc (x' - b_pre) + b_enc (of the gate, for the gated kind). The n * m
        numbers are held at once: hand it a block of images at a time. UserError for another d."""
        return self._pre(self._normalised(x_nd)).cpu().numpy()

    def encode(self, x_nd: np.ndarray) -> np.ndarray:
        """Raw embeddings -> activations, float32 [n, m], >= 0. A block at a time, as for `pre_activations`."""
        return activations(self.kind, self.weights, self._normalised(x_nd)).cpu().numpy()

    def decode(self, z_nm: np.ndarray) -> np.ndarray:
        """Activations -> embeddings in raw units, float32 [n, d]."""
        z = torch.as_tensor(z_nm, dtype=torch.float32, device=self.device)
        with torch.no_grad():
            return self.normalisation.undo((z @ self.weights["W_dec"] + self.weights["b_pre"]).cpu().numpy())

    def _normalised(self, x_nd: np.ndarray) -> Tensor:
        if x_nd.ndim != 2 or x_nd.shape[1] != self.d:
            raise UserError(f"this SAE takes embeddings of {self.d} dimensions, these are {tuple(x_nd.shape)}",
                            do="use the embeddings it was trained on, or train another SAE on these")  # fmt: skip
        return normalised(self.normalisation, x_nd).to(self.device)

    def _pre(self, x_nd: Tensor) -> Tensor:
        with torch.no_grad():
            return kinds.pre_activations(x_nd, self.weights)

    def save(self, path: Path) -> None:
        """Write a .safetensors file; kind and its options are JSON in its header."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.weights.items()}
        tensors["normalisation.mean"] = torch.from_numpy(np.ascontiguousarray(self.normalisation.mean_d))
        tensors["normalisation.scale"] = torch.tensor(self.normalisation.scale, dtype=torch.float64)
        options = {"kind": type(self.kind).__name__, **dataclasses.asdict(self.kind)}
        # One entry alone: safetensors writes several in an order that changes from run to run, and so would the bytes.
        save_file(tensors, path, metadata={FORMAT: json.dumps(options, sort_keys=True)})

    @staticmethod
    def load(path: Path) -> Sae:
        """Read what `save` wrote. UserError for a missing, damaged or foreign file, and for tensors that do not fit."""
        do = "train the SAE again, or name the sae.safetensors of an SAE artifact"
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError) as error:
            raise UserError(f"the weights of the SAE cannot be read: {error}", path, do) from error
        if FORMAT not in header:
            raise UserError(f"not an SAE of this program: its header does not say {FORMAT}", path, do)
        options = json.loads(header[FORMAT])
        name = options.pop("kind")
        if name not in KINDS:
            raise UserError(f"an SAE of unknown kind {name!r} (known: {', '.join(KINDS)})", path, "upgrade the program")
        kind = KINDS[name](**options)
        mean, scale = tensors.pop("normalisation.mean", None), tensors.pop("normalisation.scale", None)
        m, d = tensors["W_enc"].shape if "W_enc" in tensors else (0, 0)
        formulas, start = kinds.of(kind), kinds.Start(d, m, images=0)
        shapes = {"W_enc": (m, d), "b_enc": (m,), "W_dec": (m, d), "b_pre": (d,)}
        shapes |= {k: tuple(v.shape) for k, v in (formulas.start(start) | formulas.memory(start)).items()} if d else {}
        wrong = [f"{k}: {tuple(tensors[k].shape) if k in tensors else 'missing'}, should be {shape}"
                 for k, shape in shapes.items() if k not in tensors or tuple(tensors[k].shape) != shape]  # fmt: skip
        if wrong or mean is None or scale is None:
            raise UserError(f"not a whole {name} SAE: {'; '.join(wrong) or 'normalisation missing'}", path, do)
        return Sae(kind, {k: v.clone() for k, v in tensors.items()}, Normalisation(mean.numpy(), float(scale)))


def normalised(normalisation: Normalisation, x_nd: np.ndarray) -> Tensor:
    """Raw embeddings -> normalised, in memory of torch: its alignment, on which the last bits of a matrix product
    depend, is always the same (for that reason tensors read from a file are copied, too)."""
    x = torch.empty(x_nd.shape)
    normalisation.apply(x_nd, out=x.numpy())
    return x


def activations(kind: config.SaeKind, weights: dict[str, Tensor], x_nd: Tensor) -> Tensor:
    """Normalised embeddings -> activations [n, m]."""
    with torch.no_grad():
        return kinds.of(kind).activate(Dense(kinds.pre_activations(x_nd, weights)), weights)
