"""MedCLIP's image towers (Wang et al., EMNLP 2022): a thin loader of its checkpoints, with its exact preprocessing.

Written from the published layout of the checkpoint; the package `medclip` is only the oracle of the tests. Not covered:
the text tower (its tensors stay in the converted file), and the real weights, which this project has not seen.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from medsae.encoders import checkpoint, resnet, swin
from medsae.encoders.grey import square, standardised
from medsae.encoders.offered.medclip import files
from medsae.encoders.sources import Wanted, folder_of

MEAN, STD = 0.5862785803043838, 0.27950088968644304
TOWER = "vision_model."


class MedClip:
    """Grey radiograph -> 512-d embedding in MedCLIP's joint image-text space (before the division by its norm)."""

    dim, size, unit_norm_default = 512, 224, True
    grid, token_dim = (7, 7), 512
    _values = standardised(MEAN, STD)

    def __init__(self, name: str, module: ResNetTower | ViTTower, weights_sha256: str):
        self.name, self.module, self.weights_sha256 = name, module, weights_sha256
        self.token_module = Tokens(module).eval()

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] -> float32 [1, 224, 224], standardised (MedCLIP repeats the one channel; here the first
        convolution has the sum of the three in its weights)."""
        return self._values[square(picture, self.size)][None]


class ResNetTower(nn.Module):
    """MedCLIP-ResNet: keys `model.*`, its projection is the network's fc."""

    def __init__(self) -> None:
        super().__init__()
        self.model = resnet.ResNet50(MedClip.dim)

    def forward(self, x):
        return self.model(x)

    def cells(self, x):
        return self.model.fc(self.model.features(x).flatten(2).transpose(1, 2))


class ViTTower(nn.Module):
    """MedCLIP-ViT: a Swin-tiny under `model.*`, mean over its tokens, then `projection_head`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = swin.SwinTiny()
        self.projection_head = nn.Linear(self.model.dim, MedClip.dim, bias=False)

    def forward(self, x):
        return self.projection_head(self.model(x))

    def cells(self, x):
        return self.projection_head(self.model.tokens(x))


class Tokens(nn.Module):
    """Each of the 7 x 7 cells in the joint space, [b, 49, 512]: both towers are linear after their cells, so the mean
    of the tokens is the embedding (before the division by its norm)."""

    def __init__(self, tower: ResNetTower | ViTTower):
        super().__init__()
        self.tower = tower

    def forward(self, x):
        return self.tower.cells(x)


def load(wanted: Wanted) -> MedClip:
    """One of MedCLIP's towers with BatchNorm folded; raises UserError for a checkpoint of another architecture."""
    name, found = wanted.name, files(wanted).weights
    tensors = checkpoint.tensors(found, folder_of(name, wanted.cache), TOWER, wanted.progress.say)
    tower = ResNetTower() if name == "medclip-resnet" else ViTTower()
    if isinstance(tower, ViTTower):
        tensors = swin.without_computed(tensors)
    checkpoint.fit(tower, tensors, name, found.path, TOWER)
    if isinstance(tower, ResNetTower):
        resnet.for_inference(tower.model)
    else:
        swin.for_inference(tower.model)
    return MedClip(name, tower, found.sha256)
