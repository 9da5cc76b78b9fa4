"""NIH ChestX-ray14, and the labels that Google's radiologists gave to some of its pictures."""

from dataclasses import dataclass, replace
from typing import Literal

from medsae.cohorts.declared import Declaration, File, Join, Marks, Published, offer, recogniser

FINDINGS = (
    "No Finding", "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis",
    "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)  # fmt: skip
EXPERTS = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass")
_EXPERT_FILES = {
    part: File(names=(f"four_findings_expert_labels_{part}_labels.csv", f"{name}_labels.csv"), split=split)
    for part, name, split in (("test", "test", "test"), ("validation", "validation", "valid"))
}
_ENTRIES = File(names=("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv"), needed=True)

LAYOUT = Declaration(
    tables=(_ENTRIES,),
    joins=tuple(Join(file=file, on={"Image Index": "Image ID"}, prefix="google: ") for file in _EXPERT_FILES.values()),
    lists=(File(names=("train_val_list.txt",), split="train"), File(names=("test_list.txt",), split="test")),
    path=("{Image Index}",),
    picture=("Image Index",),
    finding=("Finding Labels",),
    findings=FINDINGS,
    patient=("Patient ID",),
    study=("Follow-up #",),
    view=("View Position",),
    sex=("Patient Sex", "Patient Gender"),
    age=("Patient Age",),
    marks=(Marks(file=File(names=("BBox_List_2017.csv",)), picture="Image Index", label="Finding Label"),),
    beside=tuple(f"images_{i:03}*" for i in range(1, 13)),
    defined="read from the report by text mining: named is present, not named is absent",
)
GOOGLE = replace(
    LAYOUT,
    tables=tuple(_EXPERT_FILES.values()),
    joins=(Join(file=replace(_ENTRIES, needed=False), on={"Image ID": "Image Index"}),),
    path=("{Image ID}",),
    picture=("Image ID",),
    labels=EXPERTS,
    finding=(),
    findings=(),
    marks=(),
    defined="adjudicated by at least three radiologists who looked at the picture: YES or NO",
)


@dataclass(frozen=True, kw_only=True)
class Nih(Published):
    """NIH ChestX-ray14 as downloaded: Data_Entry_2017_v2020.csv and the pictures in images_001 ... images_012."""

    labels: Literal["nih", "google"] = "nih"
    """`google`: only the pictures with adjudicated expert labels, and these labels (else kept as attributes)."""

    source = "nih"
    declaration = LAYOUT

    def layout(self) -> Declaration:
        """The declaration for these options."""
        return GOOGLE if self.labels == "google" else LAYOUT


recognise = recogniser(Nih)
offer(
    Nih,
    label="NIH ChestX-ray14",
    help="112,120 frontal radiographs of 30,805 patients (NIH Clinical Center), 14 findings mined from the reports.",
    order=40,
    licence="free to use with acknowledgement of the NIH Clinical Center; Google's labels: CC BY 4.0",
    citation="Wang et al., ChestX-ray8, CVPR 2017; expert labels: Majkowska et al., Radiology 294, 2020",
)
