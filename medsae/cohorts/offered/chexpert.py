"""CheXpert (Stanford): the small version, the full size in batches, and the csv of the test set."""

from dataclasses import dataclass, replace
from typing import Literal

from medsae.cohorts.declared import Declaration, File, Published, offer, recogniser
from medsae.config import CHEXPERT_LABELS

LAYOUT = Declaration(
    tables=(
        File(names=("train.csv",), split="train"),
        File(names=("valid.csv",), split="valid"),
        File(names=("test.csv", "test_labels.csv"), split="test"),
    ),
    path=("{Path}",),
    picture=("Path",),
    labels=CHEXPERT_LABELS,
    patient_in_path=r"(patient[^/]+)/",
    study_in_path=r"/(study[^/]+)/",
    view=("AP/PA",),
    facing=("Frontal/Lateral",),
    sex=("Sex",),
    age=("Age",),
    age_zero_is_unknown=True,  # its patients are adults
    beside=("*batch 1*", "*batch 2*", "*batch 3*", "*batch 4*"),
    blank_is_absent=("No Finding",),
    defined="stated by the CheXpert labeller from the report (valid and test: by radiologists): 1 present, 0 absent,"
    " -1 uncertain, blank not mentioned; No Finding is 1 only when no other label but Support Devices is present or"
    " uncertain, so its blank is absent",
)


@dataclass(frozen=True, kw_only=True)
class Chexpert(Published):
    """CheXpert or CheXpert-small as downloaded: train.csv, valid.csv and the pictures they name."""

    views: Literal["frontal", "lateral", "all"] = "frontal"
    """Which projections to take."""
    labeller: Literal["chexpert", "chexbert", "visualchexbert"] = "chexpert"
    """Whose labels of the training images: train.csv, train_cheXbert.csv or train_visualCheXbert.csv."""

    source = "chexpert"
    declaration = LAYOUT

    def layout(self) -> Declaration:
        """The declaration, with the chosen labels of the training images."""
        if self.labeller == "chexpert":
            return LAYOUT
        name = {"chexbert": "train_cheXbert.csv", "visualchexbert": "train_visualCheXbert.csv"}[self.labeller]
        return replace(LAYOUT, tables=(File(names=(name,), split="train", needed=True), *LAYOUT.tables[1:]))


recognise = recogniser(Chexpert)
offer(
    Chexpert,
    label="CheXpert",
    help="224,316 radiographs of 65,240 patients (Stanford), 14 labels from the reports.",
    order=10,
    licence="Stanford University School of Medicine CheXpert Dataset Research Use Agreement",
    citation="Irvin et al., CheXpert: A Large Chest Radiograph Dataset with Uncertainty Labels and Expert Comparison,"
    " AAAI 2019",
)
