"""Models of open_clip: `--encoder open_clip:FOLDER`, as `hf download ORG/NAME --local-dir FOLDER` leaves it.

For BiomedCLIP: `hf download microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224 --local-dir biomedclip`.
The vector is `encode_image` (before the division by its norm); tokens are those of a timm trunk, before its pooling.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsae.encoders.sources import Checkpoint, Files, Wanted
from medsae.files import sha256_of, slug
from medsae.plugins import Encoder, encoders
from medsae.progress import UserError

PREFIX, CONFIG = "open_clip:", "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def files(wanted: Wanted) -> Files:
    """Weights and config (which holds the preprocessing) of the folder."""
    folder = _folder(wanted)
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None or not (folder / CONFIG).is_file():
        raise UserError(
            f"this folder lacks {CONFIG} or {WEIGHTS[0]}", folder, "hf download ORG/NAME --local-dir FOLDER"
        )
    checkpoint = Checkpoint(path, sha256_of(path))
    pool = wanted.options.pool
    hashes = {"weights": checkpoint.sha256, "config": sha256_of(folder / CONFIG)}
    single = Files.single(wanted, checkpoint)  # refuses a --pool that there is not
    return Files(slug(f"{folder.resolve().name}-{pool or ''}"), single.weights, hashes)


def _folder(wanted: Wanted) -> Path:
    folder = Path(wanted.name.removeprefix(PREFIX)).expanduser()
    if not folder.is_dir():
        raise UserError("there is no such folder", folder, "give open_clip:FOLDER")
    return folder


class OpenClip:
    """Grey picture -> the model's image embedding."""

    unit_norm_default = True

    def __init__(self, name: str, sha256: str, model, preprocess):
        import torch
        from torch import nn

        class Image(nn.Module):
            def __init__(self):
                super().__init__()
                self.model = model.visual

            def forward(self, x):
                out = self.model(x)
                return out[0] if isinstance(out, tuple) else out

        class Cells(nn.Module):
            def __init__(self):
                super().__init__()
                self.trunk = model.visual.trunk

            def forward(self, x):
                return self.trunk.forward_features(x)[:, self.trunk.num_prefix_tokens :]

        self.name, self.weights_sha256, self._preprocess = name, sha256, preprocess
        size = model.visual.image_size
        self.size = size if isinstance(size, int) else size[0]
        self.module, self.token_module = Image().eval(), None
        with torch.inference_mode():
            black = torch.from_numpy(self.prepare(np.zeros((self.size, self.size), np.uint8)))[None]
            self.dim = self.module(black).shape[-1]
            if hasattr(getattr(model.visual, "trunk", None), "num_prefix_tokens"):
                cells = Cells().eval()
                side = int(cells(black).shape[1] ** 0.5)
                self.token_module, self.grid, self.token_dim = cells, (side, side), cells(black).shape[-1]

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] -> float32 [3, size, size], by open_clip's own transform."""
        from PIL import Image

        return self._preprocess(Image.fromarray(picture).convert("RGB")).numpy()


def load(wanted: Wanted) -> OpenClip:
    found = files(wanted)
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{_folder(wanted)}")
    return OpenClip(found.model, found.weights.sha256, model.eval().requires_grad_(False), preprocess)


class Text:
    """Captions -> unit vectors in the space of the images."""

    def __init__(self, model, tokenizer):
        self.model, self.tokenizer = model, tokenizer

    def embed_text(self, captions: list[str]) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self.model.encode_text(self.tokenizer(captions), normalize=True).numpy()


def load_text(wanted: Wanted) -> Text:
    import open_clip

    where = f"local-dir:{_folder(wanted)}"
    model, _ = open_clip.create_model_from_pretrained(where)
    return Text(model.eval(), open_clip.get_tokenizer(where))


encoders.register(
    Encoder(
        name=PREFIX,
        label="open_clip",
        help="open_clip:FOLDER, a model of open_clip such as BiomedCLIP.",
        load="medsae_open_clip:load",
        files="medsae_open_clip:files",
        text="medsae_open_clip:load_text",
        prefix=True,
    )
)
