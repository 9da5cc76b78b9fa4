"""Image towers of the Hugging Face shape, through transformers' own auto classes (docs/decisions/105).

Only files of this machine are read, and no code of a model is run. What is taken of a network: its own pooled vector,
its CLS token, the mean over its cells, its projection into a space shared with text, or every cell; of its output or of
any hidden state.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medsae.config import check
from medsae.encoders import hf_pictures
from medsae.encoders.offered.hf import HfOptions, files
from medsae.encoders.sources import Files, Wanted
from medsae.progress import UserError, first_line

WITH_TEXT = {
    "clip": ("CLIPVisionModelWithProjection", "CLIPTextModelWithProjection"),
    "siglip": ("SiglipVisionModel", "SiglipTextModel"),
}
"""Model types that hold a text tower as well: their image tower alone, and their text tower alone."""
VISION = {"clip_vision_model": "CLIPVisionModelWithProjection", "siglip_vision_model": "SiglipVisionModel"}
EYES = {"clip_vision_model": "CLIPVisionModel", "siglip_vision_model": "SiglipVisionModel"}
"""The image tower of a model that writes (Gemma 3 and so MedGemma, PaliGemma, LLaVA), by the type of its
`vision_config`; ..."""
_EYES_KEYS = r"^(?:model\.)?vision_tower\.(?:vision_model\.)?"
"""... and what stands before its keys."""


FRAME = 64
"""Px of a picture's square on which the places of cells are told; a picture is hardly ever smaller."""


class Hf:
    """Grey picture -> what is taken of the network."""

    unit_norm_default = False

    def __init__(self, found: Files, prepare: hf_pictures.Preparation, size: int, module: Tower, cells: Tower | None):
        self.name, self.weights_sha256, self.size = found.model, found.weights.sha256, size
        self._prepare, self.module, self.token_module = prepare, module, cells
        self.dim = module.dim
        if cells is not None:
            self.grid, self.token_dim = cells.grid, cells.dim
            # where the whole picture is seen, cells are the squares of a grid; through attention each sees everything
            # of the picture's own square, which is made as large as the input also where it is smaller
            step = FRAME / cells.grid[0]
            self.cell_px = ((step - 1) / 2, step, FRAME, FRAME) if prepare.whole else None

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] -> float32 [1, size, size] in [0, 255]: exact in bf16; mean and scale come after."""
        return self._prepare(picture)


@dataclass(frozen=True)
class Shapes:
    """What a network gives for a picture, found by trying it."""

    pooler: bool
    projected: bool
    special: int
    """Tokens that belong to no place, before the cells."""
    grid: tuple[int, int] | None
    """Rows and columns of the cells; None where they cannot be told."""


class Tower(nn.Module):
    """Grey [b, 1, s, s] in [0, 255] -> [b, dim], or [b, rows * columns, dim] for `tokens`."""

    dim: int
    grid: tuple[int, int]

    def __init__(self, net: Any, colours: hf_pictures.Preparation, layer: int, pool: str, shapes: Shapes):
        super().__init__()
        self.net, self.colours, self.layer, self.pool, self.shapes = net, colours, layer, pool, shapes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = run(self.net, x, self.colours, hidden=self.layer != -1)
        if self.pool == "projected":
            return projected(out)
        if self.pool == "pooler":
            return out.pooler_output.flatten(1)
        state = cells_last(out.last_hidden_state if self.layer == -1 else out.hidden_states[self.layer])
        if self.pool == "cls":
            return state[:, 0]
        state = state[:, self.shapes.special :]
        return state if self.pool == "tokens" else state.mean(1)


def run(net: Any, x: torch.Tensor, colours: hf_pictures.Preparation, hidden: bool) -> Any:
    """The network's outputs for grey values [b, 1, s, s] in [0, 255], normalised in float32 as three channels."""
    mean, std = (torch.tensor(v, device=x.device).view(1, 3, 1, 1) for v in (colours.mean, colours.std))
    kind = next(net.parameters()).dtype
    pixels = ((x.float() * colours.factor - mean) / std).to(kind)
    projection = getattr(net, "visual_projection", None)  # CLIP: its class with a projection gives no pooled vector
    out = (net if projection is None else net.vision_model)(pixel_values=pixels, output_hidden_states=hidden)
    if projection is not None:
        out["image_embeds"] = projection(out.pooler_output)
    return out


def projected(out: Any) -> torch.Tensor:
    """CLIP's projection; SigLIP's space of text is that of its pooled vector."""
    found = out.get("image_embeds")
    return found if found is not None else out.pooler_output


def cells_last(state: torch.Tensor) -> torch.Tensor:
    """[b, t, d] as it is; a map [b, d, h, w] as [b, h * w, d]."""
    return state.flatten(2).transpose(1, 2) if state.ndim == 4 else state


def load(wanted: Wanted) -> Hf:
    """The encoder, tried on one picture. UserError for a model that is no image tower of transformers, weights
    that are not whole, and a layer, pool or picture size that it does not have."""
    found = files(wanted)
    folder, options = found.weights.path, wanted.options
    prepare = hf_pictures.read(folder, options.crop)
    size = _size(prepare, folder)
    net, missing = network(folder)
    pooler = not any(key.startswith(("pooler", "head", "vision_model.head")) for key in missing)
    where = f"{found.model}, {folder}"
    out = _tried(net, size, prepare, where)
    shapes = _shapes(net, out, options.layer, pooler, size, where)
    pool = options.pool or ("projected" if shapes.projected and net.config.model_type.startswith("clip") else
                            "pooler" if shapes.pooler else "cls" if shapes.special else "mean")  # fmt: skip
    _check_pool(pool, options, shapes, where)
    if prepare.crop:
        wanted.progress.say("the encoder's own preprocessing cuts the borders of a picture that is not square (the "
                            "costophrenic angles, with 5:4 pictures); --no-crop keeps them")  # fmt: skip
    # What is embedded for `tokens` is the mean over them: the vector a picture has then.
    module = Tower(net, prepare, options.layer, "mean" if pool == "tokens" else pool, shapes)
    cells = None if shapes.grid is None else Tower(net, prepare, options.layer, "tokens", shapes)
    with torch.inference_mode():
        black = torch.zeros(1, 1, *size)
        module.dim = module(black).shape[-1]
        if cells is not None and shapes.grid is not None:
            cells.dim, cells.grid = cells(black).shape[-1], shapes.grid
    return Hf(found, prepare, size[0], module.eval(), cells)


def network(folder: Path) -> tuple[Any, list[str]]:
    """The image tower of a folder in float32 and eval mode, and the names of parameters that the file lacks."""
    with quiet():
        import transformers

        told = _config(folder)
        eyes = EYES.get(getattr(getattr(told, "vision_config", None), "model_type", ""))
        if eyes is not None and told.model_type not in WITH_TEXT and _speaks(told):
            return _loaded(getattr(transformers, eyes), folder, config=told.vision_config, key_mapping={_EYES_KEYS: ""})
        name = WITH_TEXT[told.model_type][0] if told.model_type in WITH_TEXT else VISION.get(told.model_type)
        if name is None:
            cls = transformers.MODEL_MAPPING.get(type(told), None)
            cls = cls[0] if isinstance(cls, tuple) else cls
            _check_sees(cls, told, folder)
            loader = transformers.AutoModel
        else:
            loader = getattr(transformers, name)
        net, missing = _loaded(loader, folder)
        if told.model_type == "vit_mae":  # an autoencoder of pictures hides three quarters of each while it learns
            net.embeddings.random_masking = _nothing_hidden
        return net, missing


def _nothing_hidden(cells: torch.Tensor, noise: Any = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """All cells [b, t, d] in their order, nothing masked, as ViTMAE's `random_masking` gives them."""
    b, t, _ = cells.shape
    return cells, torch.zeros(b, t, device=cells.device), torch.arange(t, device=cells.device).expand(b, t)


def _speaks(told: Any) -> bool:
    """It is a model that writes, with an image tower before it."""
    return any("ForConditionalGeneration" in name for name in told.architectures or ())


def _loaded(loader: Any, folder: Path, **given: Any) -> tuple[Any, list[str]]:
    do = "get the files again: hf download ORG/NAME --local-dir FOLDER"
    try:
        net, info = loader.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, dtype=torch.float32, output_loading_info=True,
            **given,
        )  # fmt: skip
    except Exception as error:  # whatever transformers raises for files it cannot use
        raise UserError(f"transformers cannot load this encoder: {first_line(error, 300)}", folder, do) from error
    missing = sorted(info["missing_keys"])
    needed = [key for key in missing if not key.startswith(("pooler.", "head.", "vision_model.head."))]
    parted = [key.partition(".") for key in info["unexpected_keys"]]
    before = {word for word, _, _ in parted}
    if needed and not given and len(before) == 1 and set(needed) <= {rest for _, _, rest in parted}:
        # a word that a training program put before every key (backbone., module.)
        return _loaded(loader, folder, key_mapping={rf"^{re.escape(before.pop())}\.": ""})
    mismatched = [str(key) for key in info.get("mismatched_keys", [])]
    if needed or mismatched:
        raise UserError(
            f"the weights do not fit the config: {len(needed)} parameters are missing, {len(mismatched)} have another "
            f"shape, first {(needed + mismatched)[0]}", folder, do,
        )  # fmt: skip
    broken = [name for name, p in net.named_parameters() if not p.isfinite().all()]
    check(
        not broken,
        f"{len(broken)} tensors of the weights hold NaN or infinity, first {(broken or [''])[0]}",
        folder,
        do,
    )
    return net.eval().requires_grad_(False), missing


def _config(folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # an unknown model type, code that would have to be run, a broken file
        raise UserError(
            f"transformers does not know this model: {first_line(error, 300)}", folder / "config.json",
            "a model that needs code of its own is not loaded; a plug-in can bring it (docs/encoders.md)",
        ) from error  # fmt: skip


def _check_sees(cls: Any, told: Any, folder: Path) -> None:
    """UserError unless the class reads pictures alone."""
    what = getattr(cls, "main_input_name", None)
    if what == "pixel_values":
        return
    kind = "reads text, not pictures" if what == "input_ids" else "has no image tower that is known here"
    if getattr(told, "vision_config", None) is not None:
        kind = "holds an image tower in a way that is not known here (save the tower alone)"
    known = "Dinov2, Dinov2WithRegisters, DINOv3ViT, SigLIP, CLIP, ViT, Swin, ConvNeXt, ResNet and others of AutoModel"
    raise UserError(f"a model of type {told.model_type!r} {kind}", folder / "config.json",
                    f"what can be loaded: {known}; a plug-in can bring more (docs/encoders.md)")  # fmt: skip


def _size(prepare: hf_pictures.Preparation, folder: Path) -> tuple[int, int]:
    """Height and width of a prepared picture; UserError where they depend on the picture."""
    if prepare.shape is None:
        raise UserError("this picture processor gives every picture another size: they make no batch", folder,
                        "--no-crop resizes the whole picture to one size")  # fmt: skip
    return prepare.shape


def _tried(net: Any, size: tuple[int, int], colours: hf_pictures.Preparation, where: str) -> Any:
    try:
        with torch.inference_mode():
            picture = torch.linspace(0, 255, size[0] * size[1]).view(1, 1, *size)  # no two cells of it are alike
            out, again = (run(net, picture, colours, hidden=True) for _ in range(2))
    except (ValueError, RuntimeError) as error:
        made = f"{size[0]} x {size[1]} px"
        raise UserError(
            f"the network does not take the pictures that its preprocessing makes ({made}): {first_line(error)}",
            where, "give size and crop_size of preprocessor_config.json the image_size of config.json",
        ) from error  # fmt: skip
    check(torch.allclose(out.last_hidden_state, again.last_hidden_state, atol=1e-5),
          "this encoder gives another vector each time that it sees the same picture (it hides parts at random)", where,
          "save the model as it is used after training, without masks")  # fmt: skip
    return out


def _shapes(net: Any, out: Any, layer: int, pooler: bool, size: tuple[int, int], where: str) -> Shapes:
    states = len(out.hidden_states)
    check(-states <= layer < states, f"--layer {layer}: this encoder has hidden states 0 to {states - 1}", where,
          "-1 is its output")  # fmt: skip
    state = out.last_hidden_state if layer == -1 else out.hidden_states[layer]
    has_pooler = pooler and out.get("pooler_output") is not None
    has_projection = out.get("image_embeds") is not None or (
        net.config.model_type.startswith("siglip") and out.get("pooler_output") is not None
    )
    if state.ndim == 4:
        return Shapes(has_pooler, has_projection, 0, (state.shape[2], state.shape[3]))
    t = state.shape[1]
    patch = getattr(net.config, "patch_size", None)
    flat = isinstance(patch, int) and not hasattr(net.config, "depths")
    rows, columns = (size[0] // patch, size[1] // patch) if flat and patch else (math.isqrt(t), math.isqrt(t))
    special = t - rows * columns
    # a network of stages (Swin) has no special tokens: its cells are a square or cannot be told
    known = 0 <= special <= 1 + max(8, getattr(net.config, "num_register_tokens", 0)) if flat else special == 0
    return Shapes(has_pooler, has_projection, special if known else 0, (rows, columns) if known else None)


def _check_pool(pool: str, options: HfOptions, shapes: Shapes, where: str) -> None:
    there = {"pooler": shapes.pooler, "projected": shapes.projected, "cls": shapes.special > 0,
             "mean": True, "tokens": shapes.grid is not None}  # fmt: skip
    check(pool in there, f"--pool {pool} is not known", where, f"choose one of {', '.join(there)}")
    names = ", ".join(name for name, has in there.items() if has)
    check(there[pool], f"--pool {pool}: this encoder has none", where, f"choose one of {names}")
    check(options.layer == -1 or pool not in ("pooler", "projected"),
          f"--pool {pool} belongs to the output of the network, not to --layer {options.layer}", where,
          "give --pool cls, mean or tokens with --layer")  # fmt: skip


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' messages and bars: what matters is said by this program."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
