"""COVIDx: radiographs from several collections, listed by COVID-Net's authors."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Published, offer, recogniser

_COLUMNS = ("patientid", "filename", "class", "source")

LAYOUT = Declaration(
    tables=(
        File(names=("train.txt", "train_covidx*.txt"), split="train", needed=True, header=_COLUMNS),
        File(names=("val.txt", "val_covidx*.txt"), split="valid", header=_COLUMNS),
        File(names=("test.txt", "test_covidx*.txt"), split="test", header=_COLUMNS),
    ),
    path=("train/{filename}", "val/{filename}", "test/{filename}", "{filename}"),
    picture=("filename",),
    finding=("class",),
    terms={"positive": "COVID-19", "negative": "No COVID-19"},
    separators="",
    negative="No COVID-19",
    patient=("patientid",),
    defined="stated by the collection that a picture comes from (column source): each picture is of one class",
    about=("pictures come from several collections, and the class goes with the collection: a model may tell the source"
           " in place of the disease",),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Covidx(Published):
    """COVIDx as downloaded: train.txt, val.txt and test.txt beside the folders train, val and test."""

    source = "covidx"
    declaration = LAYOUT


recognise = recogniser(Covidx)
offer(
    Covidx,
    label="COVIDx",
    help="84,818 radiographs of COVID-19 and other lungs, from several collections.",
    order=120,
    licence="those of its collections",
    citation="Wang et al., COVID-Net: a tailored deep convolutional neural network design for detection of COVID-19"
    " cases from chest X-ray images, Scientific Reports 10, 2020",
)
