"""VinDr-CXR (Hanoi): several radiologists read each training image; the majority counts, their boxes are kept."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Marks, Published, offer, recogniser

LAYOUT = Declaration(
    tables=(
        File(names=("image_labels_train.csv", "train.csv"), split="train"),  # train.csv: Kaggle's VinBigData
        File(names=("image_labels_test.csv",), split="test"),
    ),
    path=("train/{image_id}.dicom", "test/{image_id}.dicom", "{image_id}"),
    picture=("image_id",),
    reader=("rad_id", "rad_ID"),
    finding=("class_name",),  # a row for each box, in Kaggle's table alone
    separators="",
    negative="No finding",
    box=("x_min", "y_min", "x_max", "y_max"),
    marks=tuple(
        Marks(file=File(names=(f"annotations_{part}.csv",)), picture="image_id", label="class_name", reader="rad_id")
        for part in ("train", "test")
    ),
    defined="stated by radiologists who looked at the picture (train: three, the majority counts and a draw is"
    " uncertain; test: the consensus of five)",
    about=("VinDr-CXR does not say which pictures are of one patient: every picture counts as its own patient",),
)


@dataclass(frozen=True, kw_only=True)
class Vindr(Published):
    """VinDr-CXR as downloaded: annotations/image_labels_*.csv, annotations/annotations_*.csv, train/ and test/."""

    source = "vindr"
    declaration = LAYOUT


recognise = recogniser(Vindr)
offer(
    Vindr,
    label="VinDr-CXR",
    help="18,000 frontal radiographs (Hanoi) read by radiologists: 28 findings, boxes of 22.",
    order=60,
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    citation="Nguyen et al., VinDr-CXR: An open dataset of chest X-rays with radiologist's annotations,"
    " Scientific Data 9, 2022",
)
