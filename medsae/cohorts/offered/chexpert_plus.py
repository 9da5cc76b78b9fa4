"""CheXpert Plus (Stanford): PNG or DICOM, one table about the pictures, labels as JSON lines."""

from dataclasses import dataclass, replace
from typing import Literal

from medsae.cohorts.declared import Declaration, File, Join, Published, offer, recogniser
from medsae.config import CHEXPERT_LABELS


def _labels_of(section: str) -> Join:
    file = File(names=(f"{section}_fixed.json", f"{section}_fixed.jsonl"), needed=True)
    return Join(file=file, on={"path_to_image": "path_to_image"})


LAYOUT = Declaration(
    tables=(File(names=("df_chexpert_plus_*.csv",), needed=True),),
    joins=(_labels_of("impression"),),
    path=("{path_to_image}",),
    picture=("path_to_image",),
    labels=CHEXPERT_LABELS,
    patient=("deid_patient_id",),
    patient_in_path=r"(patient[^/]+)/",
    study_in_path=r"/(study[^/]+)/",
    split=("split",),
    split_in_path=r"^(train|valid|test)/",
    view=("ap_pa",),
    facing=("frontal_lateral",),
    sex=("sex",),
    age=("age",),
    age_zero_is_unknown=True,
    blank_is_absent=("No Finding",),
    defined="stated by CheXbert from a section of the report: 1 present, 0 absent, -1 uncertain, blank not mentioned;"
    " No Finding is 1 only when no other label but Support Devices is present or uncertain, so its blank is absent",
    about=("the sections of the reports are kept as attributes; leave them out with --drop-columns report,...",),
)


@dataclass(frozen=True, kw_only=True)
class ChexpertPlus(Published):
    """CheXpert Plus as downloaded: df_chexpert_plus_240401.csv, chexbert_labels/ and PNG/ (or DICOM/)."""

    section: Literal["impression", "findings", "report"] = "impression"
    """Section of the report that the labels were read from: chexbert_labels/<section>_fixed.json."""

    source = "chexpert-plus"
    declaration = LAYOUT

    def layout(self) -> Declaration:
        """The declaration, with the labels of the chosen section."""
        return replace(LAYOUT, joins=(_labels_of(self.section),))


recognise = recogniser(ChexpertPlus)
offer(
    ChexpertPlus,
    label="CheXpert Plus",
    help="223,228 radiographs of 64,725 patients (Stanford) with reports, demographics and CheXbert's labels.",
    order=20,
    licence="Stanford University Dataset Research Use Agreement",
    citation="Chambon et al., CheXpert Plus: Augmenting a Large Chest X-ray Dataset with Text Radiology Reports,"
    " Patient Demographics and Additional Image Formats, 2024 (arXiv:2405.19538)",
)
