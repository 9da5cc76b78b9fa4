"""SIIM-ACR Pneumothorax Segmentation: masks as run lengths."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Published, offer, recogniser

LAYOUT = Declaration(
    tables=(File(names=("train-rle.csv", "stage_2_train.csv", "train_rle.csv", "*rle*.csv"), split="train",
                 needed=True),),
    path=("{ImageId}.dcm", "{ImageId}"),
    picture=("ImageId",),
    rle=("EncodedPixels",),
    box_label="Pneumothorax",
    defined="stated by radiologists who outlined each pneumothorax: a picture with a mask has one, without it has none",
    about=("the table names no patients: every picture counts as its own patient; the pictures come from NIH"
           " ChestX-ray14",),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Siim(Published):
    """SIIM-ACR Pneumothorax as downloaded: train-rle.csv (or stage_2_train.csv) and dicom-images-train/."""

    source = "siim"
    declaration = LAYOUT


recognise = recogniser(Siim)
offer(
    Siim,
    label="SIIM-ACR Pneumothorax",
    help="12,047 radiographs (NIH) with outlined pneumothoraces.",
    order=80,
    licence="SIIM-ACR Pneumothorax Segmentation Challenge terms of use (non-commercial research)",
    citation="SIIM-ACR Pneumothorax Segmentation Challenge, Kaggle 2019",
)
