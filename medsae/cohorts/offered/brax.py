"""BRAX (Hospital Israelita Albert Einstein, Sao Paulo)."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Published, offer, recogniser
from medsae.config import CHEXPERT_LABELS

LAYOUT = Declaration(
    tables=(File(names=("master_spreadsheet_update.csv", "master_spreadsheet*.csv"), needed=True),),
    path=("{PngPath}", "{DicomPath}"),
    picture=("PngPath", "DicomPath"),
    labels=CHEXPERT_LABELS,
    patient=("PatientID",),
    study=("AccessionNumber",),
    view=("ViewPosition",),
    sex=("PatientSex",),
    age=("PatientAge",),
    blank_is_absent=("No Finding",),
    defined="stated by the CheXpert labeller, adapted to Portuguese, from the report: 1 present, 0 absent, -1"
    " uncertain, blank not mentioned; No Finding is 1 only when no other label but Support Devices is present or"
    " uncertain, so its blank is absent",
)


@dataclass(frozen=True, kw_only=True)
class Brax(Published):
    """BRAX as downloaded: master_spreadsheet_update.csv, images/ (PNG) or Anonymized_DICOMs/."""

    source = "brax"
    declaration = LAYOUT


recognise = recogniser(Brax)
offer(
    Brax,
    label="BRAX",
    help="40,967 radiographs of 18,442 patients (Sao Paulo), CheXpert's 14 labels from Portuguese reports.",
    order=90,
    licence="PhysioNet Credentialed Health Data License 1.5.0",
    citation="Reis et al., BRAX, Brazilian labeled chest x-ray dataset, Scientific Data 9, 2022",
)
