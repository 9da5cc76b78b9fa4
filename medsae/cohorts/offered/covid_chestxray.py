"""The covid-chestxray collection (Cohen et al.): pictures from publications."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Published, offer, recogniser

LAYOUT = Declaration(
    tables=(File(names=("metadata.csv",), needed=True),),
    path=("{folder}/{filename}", "{filename}", "images/{filename}"),
    picture=("filename",),
    finding=("finding",),
    separators=",/",
    not_stated=("todo", "unknown"),
    patient=("patientid",),
    view=("view",),
    sex=("sex",),
    age=("age",),
    only={"modality": ("x-ray", "xray", "cr", "dx")},
    defined="stated by the publication that a picture comes from; each level of a term such as Pneumonia/Viral is"
    " a label: named is present, not named is absent",
    about=("the notes are kept as attributes; leave them out with --drop-columns clinical_notes,other_notes",),
)


@dataclass(frozen=True, kw_only=True)
class CovidChestxray(Published):
    """The covid-chestxray repository: metadata.csv and images/ (CT slices are left out)."""

    source = "covid-chestxray"
    declaration = LAYOUT


recognise = recogniser(CovidChestxray)
offer(
    CovidChestxray,
    label="covid-chestxray",
    help="About 950 pictures of viral and other pneumonias from publications; the radiographs are taken.",
    order=110,
    licence="a licence for each picture (column license)",
    citation="Cohen et al., COVID-19 Image Data Collection: Prospective Predictions Are the Future, 2020"
    " (arXiv:2006.11988)",
)
