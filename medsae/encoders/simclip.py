"""simclip: the small encoder of the simulated cohort, shaped like MedCLIP, and its text tower.

A convolutional trunk, pooled, and one linear projection into a space of d = 128 shared with short captions. The space
is learned through inner products only, so its axes mean nothing by themselves. Trained on simulated patients that no
cohort with a seed below `train_simclip.SEED` holds; it knows nothing of real radiographs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from medsae.encoders import checkpoint
from medsae.encoders.grey import square, standardised
from medsae.encoders.offered.simclip import files
from medsae.encoders.sources import Wanted, folder_of

DIM, SIZE = 128, 128
WIDTHS = (16, 32, 64, 128)
WORDS = (
    "no", "finding", "right", "left", "upper", "middle", "lower", "lobe", "side", "both", "heart", "enlarged",
    "cardiomegaly", "cardiomediastinum", "wide", "mediastinum", "lung", "opacity", "haze", "lesion", "nodule",
    "mass", "edema", "congestion", "consolidation", "pneumonia", "infiltrate", "atelectasis", "collapse",
    "pneumothorax", "pleural", "air", "effusion", "fluid", "other", "thickening", "fracture", "broken", "bone",
    "pacemaker", "generator", "sternal", "wires", "sternotomy", "endotracheal", "tube", "intubated", "central",
    "line", "catheter", "venous", "chest", "drain", "ecg", "leads", "electrodes", "ap", "pa", "view", "projection",
    "portable", "normal", "support", "devices",
)  # fmt: skip
"""Words the text tower knows, in the order of its table; others are passed over."""


class ConvUnit(nn.Module):
    """3 x 3 convolution, BatchNorm while training (folded into the weights that are shipped), ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int, norm: bool, relu: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=not norm)
        self.norm = nn.BatchNorm2d(c_out) if norm else nn.Identity()
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x))
        return torch.relu(x) if self.relu else x


class Stage(nn.Module):
    """Halves the resolution, adds what is learned about the place, and one residual pair of convolutions."""

    def __init__(self, c_in: int, c_out: int, side: int, norm: bool):
        super().__init__()
        self.down = ConvUnit(c_in, c_out, 2, norm)
        self.place = nn.Parameter(torch.zeros(1, c_out, side, side))
        self.first = ConvUnit(c_out, c_out, 1, norm)
        self.second = ConvUnit(c_out, c_out, 1, norm, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.down(x) + self.place
        return torch.relu(x + self.second(self.first(x)))


class ImageTower(nn.Module):
    """[b, 1, 128, 128] -> [b, 128], not normalised: trunk, mean and maximum over its 8 x 8 cells, linear projection."""

    def __init__(self, norm: bool = False):
        super().__init__()
        self.stem = ConvUnit(1, WIDTHS[0], 2, norm)
        self.stages = nn.Sequential(*(Stage(a, b, SIZE // 4 // 2**i, norm) for i, (a, b) in
                                      enumerate(itertools.pairwise(WIDTHS))))  # fmt: skip
        self.project = nn.Linear(2 * WIDTHS[-1], DIM)

    def cells(self, x: torch.Tensor) -> torch.Tensor:
        """[b, 1, 128, 128] -> [b, 128, 64]: the trunk's cells before they are pooled, row by row."""
        return self.stages(self.stem(x)).flatten(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cells = self.cells(x)
        return self.project(torch.cat([cells.mean(2), cells.amax(2)], 1))


class Tokens(nn.Module):
    """The trunk's cells, [b, 64, 128]; the projection follows the pooling, so they are not in the space of text."""

    def __init__(self, tower: ImageTower):
        super().__init__()
        self.tower = tower

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.tower.cells(x).transpose(1, 2)


class TextTower(nn.Module):
    """Word indices [t, words] (-1 for none) -> [t, 128], not normalised: mean of word vectors, two layers."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(len(WORDS) + 1, 64, padding_idx=0)
        self.hidden = nn.Linear(64, 256)
        self.project = nn.Linear(256, DIM)

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        count = (index >= 0).sum(1, keepdim=True).clamp(min=1)
        mean = self.words(index + 1).sum(1) / count.sqrt()
        return self.project(torch.relu(self.hidden(mean)))


def tokens(captions: Sequence[str]) -> torch.Tensor:
    """Indices [captions, words] into WORDS, filled up with -1; case and punctuation do not matter."""
    place = {word: i for i, word in enumerate(WORDS)}
    split = ["".join(c if c.isalnum() else " " for c in caption.lower()).split() for caption in captions]
    known = [[place[word] for word in words if word in place] for words in split]
    longest = max([1, *map(len, known)])
    return torch.tensor([line + [-1] * (longest - len(line)) for line in known])


class SimClip:
    """Grey picture -> 128 numbers; captions -> 128 numbers in the same space."""

    name, dim, size, unit_norm_default = "simclip", DIM, SIZE, True
    grid, token_dim = (8, 8), WIDTHS[-1]
    _values = standardised(0.5, 0.25)

    def __init__(self, module: ImageTower, text: TextTower, weights_sha256: str):
        self.module, self.text, self.weights_sha256 = module, text, weights_sha256
        self.token_module = Tokens(module).eval()

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 grey [h, w] -> float32 [1, 128, 128] in [-2, 2]."""
        return self._values[square(picture, self.size)][None]

    @staticmethod
    def knows(caption: str) -> bool:
        """Whether the text tower knows every word of it."""
        words = "".join(c if c.isalnum() else " " for c in caption.lower()).split()
        return bool(words) and set(words) <= set(WORDS)

    @torch.inference_mode()
    def embed_text(self, captions: list[str]) -> np.ndarray:
        """float32 [t, 128] of unit length; a caption without a known word gives what no words give."""
        out = self.text(tokens(captions))
        return nn.functional.normalize(out, dim=1).numpy()


def load(wanted: Wanted) -> SimClip:
    """The encoder with its shipped weights, or with those of `weights`; UserError for another architecture's."""
    name, found = wanted.name, files(wanted).weights
    image, text = ImageTower(), TextTower()
    for tower, prefix in ((image, "image."), (text, "text.")):
        say = wanted.progress.say if tower is image else None
        tensors = checkpoint.tensors(found, folder_of(name, wanted.cache), prefix, say)
        checkpoint.fit(tower, tensors, name, found.path, prefix)
    return SimClip(image.eval(), text.eval(), found.sha256)
