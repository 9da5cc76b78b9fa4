"""MedCLIP's two image towers; weights from the two zips that its repository names."""

from __future__ import annotations

from medsae.encoders.sources import Files, Wanted, cached, folder_of, given
from medsae.plugins import Encoder, encoders

URLS = {
    "medclip-resnet": "https://storage.googleapis.com/pytrial/medclip-pretrained.zip",
    "medclip-vit": "https://storage.googleapis.com/pytrial/medclip-vit-pretrained.zip",
}
"""The zips of medclip_resnet_weight.txt and medclip_vit_weight.txt in MedCLIP's repository."""


def files(wanted: Wanted) -> Files:
    """The checkpoint: `--weights`, or the one in the cache, fetched there where it is missing."""
    name = wanted.name
    if wanted.weights is not None:
        return Files.single(wanted, given(wanted.weights))
    return Files.single(wanted, cached(folder_of(name, wanted.cache), URLS[name], wanted.progress))


for _name, _tower in (("medclip-resnet", "ResNet-50 (the paper's encoder)"), ("medclip-vit", "Swin-tiny")):
    encoders.register(
        Encoder(
            name=_name,
            label=f"MedCLIP, {_tower.split(' (')[0]}",
            help=f"The image tower of MedCLIP, {_tower}; weights fetched once, or --weights.",
            load="medsae.encoders.medclip:load",
            files="medsae.encoders.offered.medclip:files",
            text="medsae.encoders.medclip_text:load",
        )
    )
