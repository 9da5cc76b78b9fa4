"""PadChest (Hospital San Juan, Alicante)."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Published, offer, recogniser

LAYOUT = Declaration(
    tables=(File(names=("PADCHEST_chest_x_ray_images_labels_160K*.csv", "PADCHEST*.csv"), needed=True),),
    path=("{ImageDir}/{ImageID}", "{ImageID}"),
    picture=("ImageID",),
    finding=("Labels",),
    separators="|;",
    negative="normal",
    patient=("PatientID",),
    study=("StudyID",),
    view=("Projection",),
    sex=("PatientSex_DICOM",),
    birth=("PatientBirth",),
    date=("StudyDate_DICOM",),
    defined="read from the report by physicians (27 %) or a network trained on their reading (column MethodLabel):"
    " named is present, not named is absent",
    about=("the reports are kept as attributes; leave them out with --drop-columns Report",),
)


@dataclass(frozen=True, kw_only=True)
class Padchest(Published):
    """PadChest as downloaded: its table, and the pictures in the folders 0 ... 54."""

    source = "padchest"
    declaration = LAYOUT


recognise = recogniser(Padchest)
offer(
    Padchest,
    label="PadChest",
    help="160,868 radiographs of 67,625 patients (Alicante) with 174 findings; the 64 most frequent are labels.",
    order=50,
    licence="PadChest Dataset Research Use Agreement (BIMCV)",
    citation="Bustos et al., PadChest: A large chest x-ray image dataset with multi-label annotated reports,"
    " Medical Image Analysis 66, 2020",
)
