"""Make a convolutional network cheaper without changing what it computes (up to rounding)."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batchnorm(owner: nn.Module, conv: str, norm: str) -> None:
    """Fold the BatchNorm attribute `norm` of `owner` into its convolution `conv`; the norm becomes the identity."""
    setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
    setattr(owner, norm, nn.Identity())


def fold_grey(owner: nn.Module, conv: str) -> None:
    """Let the first convolution take one channel: three equal channels add up in its weights."""
    layer: nn.Conv2d = getattr(owner, conv)
    assert layer.in_channels == 3 and layer.groups == 1, "a first convolution over RGB"
    layer.weight = nn.Parameter(layer.weight.detach().sum(1, keepdim=True), requires_grad=False)
    layer.in_channels = 1
