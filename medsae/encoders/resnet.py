"""ResNet-50 (He et al. 2015, the variant with the stride in the 3 x 3), parameters named as in torchvision's."""

from __future__ import annotations

import torch
from torch import nn

from medsae.encoders.fuse import fold_batchnorm, fold_grey


class Bottleneck(nn.Module):
    """1 x 1 down to `width`, 3 x 3, 1 x 1 up to 4 * `width`, added to its input."""

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        out = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, out, 1, bias=False), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet50(nn.Module):
    """[b, 3, s, s] -> [b, dim]: fc(mean over the cells of features(x)). `fc` has no bias, so a neuron's value is the
    mean of its values over the cells."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.relu, self.maxpool = nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)
        self.layer1 = _layer(64, 64, 3, 1)
        self.layer2 = _layer(256, 128, 4, 2)
        self.layer3 = _layer(512, 256, 6, 2)
        self.layer4 = _layer(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, dim, bias=False)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """[b, c, s, s] -> [b, 2048, s / 32, s / 32], before pooling."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.features(x).mean((2, 3)))


def _layer(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(channels, width, stride)
    return nn.Sequential(first, *(Bottleneck(4 * width, width, 1) for _ in range(blocks - 1)))


def for_inference(net: ResNet50) -> None:
    """Fold every BatchNorm and take one grey channel instead of three equal ones, in place."""
    fold_batchnorm(net, "conv1", "bn1")
    fold_grey(net, "conv1")
    for block in net.modules():
        if isinstance(block, Bottleneck):
            for number in (1, 2, 3):
                fold_batchnorm(block, f"conv{number}", f"bn{number}")
            if block.downsample is not None:
                fold_batchnorm(block.downsample, "0", "1")
