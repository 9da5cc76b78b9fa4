"""DenseNet-121 of torchxrayvision (Cohen et al. 2022): `--encoder xrv:densenet121-res224-chex`, or --weights FILE.

Its pooled features, 1024-d and non-negative, and the 7 x 7 cells they are the mean of. Preprocessing as in its readme:
the middle square, 224 px, grey values from -1024 to 1024 (resampled by Pillow here, by scikit-image there).
Weights lie in ~/.torchxrayvision/models_data; nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsae.encoders.sources import Files, Wanted, given
from medsae.plugins import Encoder, encoders
from medsae.progress import UserError

PREFIX, CACHE = "xrv:", Path("~/.torchxrayvision/models_data")


def files(wanted: Wanted) -> Files:
    """The checkpoint: --weights, or the file that torchxrayvision has downloaded."""
    name = wanted.name.removeprefix(PREFIX)
    if wanted.weights is not None:
        return _named(wanted, name, given(wanted.weights))
    import torchxrayvision

    known = torchxrayvision.models.model_urls
    if name not in known:
        raise UserError(f"torchxrayvision has no weights {name!r}", do=f"choose one of {', '.join(sorted(known))}")
    path = CACHE.expanduser() / known[name]["weights_url"].rsplit("/", 1)[-1]
    if not path.is_file():
        do = f"python -c 'import torchxrayvision as x; x.models.get_model(\"{name}\")', or give --weights FILE"
        raise UserError(f"the weights of {name} are not on this machine", path, do)
    return _named(wanted, name, given(path))


def _named(wanted: Wanted, name: str, checkpoint) -> Files:
    found = Files.single(wanted, checkpoint)
    return Files(f"xrv-{name}" + ("-tokens" if wanted.options.pool else ""), found.weights, found.hashes)


class DenseNet:
    """Grey radiograph -> 1024 pooled features."""

    dim, size, unit_norm_default = 1024, 224, False
    grid, token_dim = (7, 7), 1024

    def __init__(self, name: str, net, sha256: str):
        from torch import nn

        class Cells(nn.Module):
            """[b, 1, 224, 224] -> [b, 49, 1024]."""

            def __init__(self):
                super().__init__()
                self.features = net.features

            def forward(self, x):
                return self.features(x).relu().flatten(2).transpose(1, 2)

        class Pooled(nn.Module):
            def __init__(self):
                super().__init__()
                self.cells = Cells()

            def forward(self, x):
                return self.cells(x).mean(1)

        self.name, self.weights_sha256 = name, sha256
        self.module, self.token_module = Pooled().eval(), Cells().eval()

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] -> float32 [1, 224, 224] in [-1024, 1024]."""
        from PIL import Image

        h, w = picture.shape
        side = min(h, w)
        square = picture[(h - side) // 2 :, (w - side) // 2 :][:side, :side]
        small = Image.fromarray(square).resize((self.size, self.size), Image.Resampling.BILINEAR)
        return ((np.asarray(small, np.float32) * 2 / 255 - 1) * 1024)[None]


def load(wanted: Wanted) -> DenseNet:
    """The network with its weights. They are state dicts, or whole pickled networks, which are refused: convert one
    with torchxrayvision itself, `torch.save(net.state_dict(), FILE)`, and give it as --weights."""
    found = files(wanted)
    import torch
    import torchxrayvision

    try:
        state = torch.load(found.weights.path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a pickle that needs code raises
        do = "in Python: torch.save(torchxrayvision.models.get_model(NAME).state_dict(), FILE); then --weights FILE"
        raise UserError("these weights are a pickle that would run code", found.weights.path, do) from error
    state = {key: value for key, value in state.items() if key.startswith("features.")}
    net = torchxrayvision.models.DenseNet(weights=None)
    left = net.load_state_dict(state, strict=False)
    if left.unexpected_keys or any(key.startswith("features.") for key in left.missing_keys):
        raise UserError("this is no DenseNet-121 of torchxrayvision", found.weights.path, "check --weights")
    return DenseNet(found.model, net.eval().requires_grad_(False), found.weights.sha256)


encoders.register(
    Encoder(
        name=PREFIX,
        label="torchxrayvision",
        help="xrv:NAME, a DenseNet-121 of torchxrayvision trained on public radiographs.",
        load="medsae_torchxrayvision:load",
        files="medsae_torchxrayvision:files",
        prefix=True,
    )
)
