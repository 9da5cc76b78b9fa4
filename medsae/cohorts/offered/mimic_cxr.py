"""MIMIC-CXR-JPG (PhysioNet): metadata, split and the labels of two labellers, joined here."""

from dataclasses import dataclass, replace
from typing import Literal

from medsae.cohorts.declared import Declaration, File, Join, Published, offer, recogniser
from medsae.config import CHEXPERT_LABELS

_STUDY = {"subject_id": "subject_id", "study_id": "study_id"}
_BELOW = "p{subject_id:.2}/p{subject_id}/s{study_id}/{dicom_id}"


def _joins(labeller: str) -> tuple[Join, ...]:
    def of(name: str) -> Join:
        file = File(names=(f"mimic-cxr-2.*-{name}.csv",), needed=name == labeller)
        return Join(file=file, on=_STUDY, prefix="" if name == labeller else f"{name}: ")

    radiologists = File(names=("mimic-cxr-2.*-test-set-labeled.csv",))
    return (
        Join(file=File(names=("mimic-cxr-2.*-split.csv",)), on={"dicom_id": "dicom_id"}),
        of("chexpert"),
        of("negbio"),
        Join(file=radiologists, on={"study_id": "study_id"}, prefix="radiologist: "),
    )


LAYOUT = Declaration(
    tables=(File(names=("mimic-cxr-2.*-metadata.csv",), needed=True),),
    joins=_joins("chexpert"),
    path=tuple(f"{folder}{_BELOW}{suffix}" for suffix in (".jpg", ".dcm") for folder in ("files/", "")),
    picture=("dicom_id",),
    labels=CHEXPERT_LABELS,
    patient=("subject_id",),
    study=("study_id",),
    split=("split",),
    view=("ViewPosition",),
    blank_is_absent=("No Finding",),
    defined="stated by a labeller from the report of the study, so that all views of a study have the same: 1 present,"
    " 0 absent, -1 uncertain, blank not mentioned; No Finding is 1 only when no other label but Support Devices is"
    " present or uncertain, so its blank is absent",
)


@dataclass(frozen=True, kw_only=True)
class MimicCxr(Published):
    """MIMIC-CXR-JPG as downloaded: its tables (csv or csv.gz) and files/p10/p10000032/s50414267/NAME.jpg."""

    labeller: Literal["chexpert", "negbio"] = "chexpert"
    """Whose labels; the values of the other labeller are kept as attributes."""

    source = "mimic-cxr"
    declaration = LAYOUT

    def layout(self) -> Declaration:
        """The declaration, with the chosen labeller's columns as labels and the other's as attributes."""
        return replace(LAYOUT, joins=_joins(self.labeller))


recognise = recogniser(MimicCxr)
offer(
    MimicCxr,
    label="MIMIC-CXR-JPG",
    help="377,110 radiographs of 65,379 patients (Beth Israel Deaconess), labels of CheXpert's labeller and NegBio.",
    order=30,
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    citation="Johnson et al., MIMIC-CXR-JPG, a large publicly available database of labeled chest radiographs, 2019"
    " (arXiv:1901.07042)",
)
