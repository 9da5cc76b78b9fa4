"""What every format is turned into: an SAE on embeddings as they are, without a normalisation of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Literal

from medsae.config import check

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Plain:
    """pre = W_enc (x - b_dec) + b_enc (or W_enc x + b_enc), z = the kind's function of pre, x^ = z W_dec + b_dec.

    relu: z = ReLU(pre). topk: ReLU of the k largest. jumprelu: pre where it is above `threshold`, else 0.
    gated: (pre > 0) ReLU(exp(r_mag) (pre - b_enc) + b_mag)."""

    kind: Literal["relu", "topk", "jumprelu", "gated"]
    w_enc_md: Tensor
    b_enc_m: Tensor
    w_dec_md: Tensor
    b_dec_d: Tensor
    subtract: bool = True
    """Whether b_dec is taken from x before encoding."""
    k: int | None = None
    """topk; of a jumprelu, the neurons an image that a batch top-k was trained with, where that is known."""
    threshold_m: Tensor | None = None
    """jumprelu, at least 0: one a neuron, or one for all."""
    r_mag_m: Tensor | None = None
    b_mag_m: Tensor | None = None

    @property
    def m(self) -> int:
        return self.w_enc_md.shape[0]

    @property
    def d(self) -> int:
        return self.w_enc_md.shape[1]

    def with_subtraction(self, subtract: bool) -> Plain:
        """The same tensors, read the other way (another SAE, unless b_dec is 0)."""
        return replace(self, subtract=subtract)

    def folded(self, subtract: bool) -> Plain:
        """The same SAE, written with or without the subtraction: b_enc takes up W_enc b_dec."""
        if subtract == self.subtract:
            return self
        shift_m = self.w_enc_md @ self.b_dec_d * (1 if subtract else -1)
        b_mag_m = self.b_mag_m
        if b_mag_m is not None and self.r_mag_m is not None:
            b_mag_m = b_mag_m + self.r_mag_m.exp() * shift_m
        return replace(self, subtract=subtract, b_enc_m=self.b_enc_m + shift_m, b_mag_m=b_mag_m)

    def sha256(self) -> str:
        """Of all that decides what it computes: another config beside the same weights is another SAE."""
        import torch

        digest = hashlib.sha256(repr((self.kind, self.subtract, self.k)).encode())
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, torch.Tensor):
                digest.update(f"{one.name}{list(value.shape)}".encode())
                digest.update(value.detach().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def one_threshold(self) -> float | None:
        """The threshold that all neurons share, where they do."""
        t = self.threshold_m
        return None if t is None or bool((t != t.flatten()[0]).any()) else float(t.flatten()[0])


def checked(plain: Plain, where: str) -> Plain:
    """The same; UserError for shapes that do not fit (transposed weights), NaN, infinity, and a k that is too large."""
    check(plain.w_enc_md.ndim == 2, f"W_enc is {list(plain.w_enc_md.shape)}, not a matrix", where)
    m, d = plain.w_enc_md.shape
    shapes = {"W_enc": (plain.w_enc_md, (m, d)), "W_dec": (plain.w_dec_md, (m, d)), "b_enc": (plain.b_enc_m, (m,)),
              "b_dec": (plain.b_dec_d, (d,))}  # fmt: skip
    for name, value in (("r_mag", plain.r_mag_m), ("b_mag", plain.b_mag_m)):
        if plain.kind == "gated":
            check(value is not None, f"a gated SAE needs {name}", where)
            shapes[name] = (value, (m,))  # pyright: ignore[reportArgumentType]
    if plain.threshold_m is not None:
        t = plain.threshold_m
        shapes["threshold"] = (t, (m,) if t.ndim else ())
        check(bool((t >= 0).all()), "a threshold is negative", where)
    for name, (value, shape) in shapes.items():
        check(tuple(value.shape) == shape, f"{name} is {list(value.shape)} and should be {list(shape)} (m = {m} "
              f"neurons, d = {d} dimensions, by the shape of W_enc)", where,
              "check --format; transposed weights are refused, not turned")  # fmt: skip
        check(bool(value.isfinite().all()), f"{name} holds NaN or infinity", where)
    fits = plain.kind != "topk" or (plain.k is not None and 1 <= plain.k <= m)
    check(fits, f"k = {plain.k} does not fit {m} neurons", where)
    check(plain.kind != "jumprelu" or plain.threshold_m is not None, "a JumpReLU SAE needs a threshold", where)
    return plain
