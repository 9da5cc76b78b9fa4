"""RSNA Pneumonia Detection Challenge: a row for each box, and a table of classes beside it."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Join, Published, offer, recogniser

LAYOUT = Declaration(
    tables=(File(names=("stage_2_train_labels.csv", "stage_1_train_labels.csv"), split="train", needed=True),),
    joins=(
        Join(
            file=File(names=("stage_2_detailed_class_info.csv", "stage_1_detailed_class_info.csv")),
            on={"patientId": "patientId"},
        ),
    ),
    path=("stage_2_train_images/{patientId}.dcm", "stage_1_train_images/{patientId}.dcm", "{patientId}"),
    picture=("patientId",),
    labels=("Target",),
    finding=("class",),
    findings=("Normal", "Lung Opacity", "No Lung Opacity / Not Normal"),
    separators="",
    negative="Normal",
    patient=("patientId",),
    box=("x", "y", "width", "height"),
    box_label="Lung Opacity",
    defined="stated by radiologists who looked at the picture: each picture is of one of three classes; Lung Opacity is"
    " an opacity suspicious for pneumonia (Target 1)",
    about=("the challenge names one patient for each picture; the pictures come from NIH ChestX-ray14",),
)


@dataclass(frozen=True, kw_only=True)
class Rsna(Published):
    """RSNA Pneumonia Detection as downloaded: stage_2_train_labels.csv, the class table, stage_2_train_images/."""

    source = "rsna"
    declaration = LAYOUT


recognise = recogniser(Rsna)
offer(
    Rsna,
    label="RSNA Pneumonia Detection",
    help="26,684 frontal radiographs (NIH) read by radiologists: three classes, and boxes of lung opacities.",
    order=70,
    licence="RSNA Pneumonia Detection Challenge terms of use (non-commercial research)",
    citation="Shih et al., Augmenting the NIH Chest Radiograph Dataset with Expert Annotations of Possible Pneumonia,"
    " Radiology: Artificial Intelligence 1, 2019",
)
