"""Open-I, the Indiana University collection: the library's reports in XML, or the tables made of them."""

from dataclasses import dataclass

from medsae.cohorts.declared import Declaration, File, Join, Published, offer, recogniser

LAYOUT = Declaration(
    tables=(File(names=("indiana_projections.csv", "ecgen-radiology"), needed=True),),
    joins=(Join(file=File(names=("indiana_reports.csv",)), on={"uid": "uid"}),),
    path=("images/images_normalized/{filename}", "images_normalized/{filename}", "images/{filename}",
          "NLMCXR_png/{filename}.png", "{filename}"),
    picture=("filename",),
    finding=("Problems",),
    separators=";",
    negative="normal",
    patient=("uid",),
    view=("projection",),
    defined="terms that coders gave to the report (MeSH and RadLex): named is present, not named is absent",
    about=("a report is of one patient; the text of the reports is kept as attributes: leave it out with"
           " --drop-columns indication,comparison,findings,impression",),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OpenI(Published):
    """Open-I (Indiana): the reports (ecgen-radiology/*.xml) and pictures of the National Library of Medicine, or the
    tables indiana_reports.csv and indiana_projections.csv with images/images_normalized/."""

    source = "open-i"
    declaration = LAYOUT


recognise = recogniser(OpenI)
offer(
    OpenI,
    label="Open-I (Indiana University)",
    help="7,470 radiographs of 3,851 reports (Indiana), coded findings.",
    order=100,
    licence="Open-i terms (US National Library of Medicine); CC BY-NC-ND 4.0",
    citation="Demner-Fushman et al., Preparing a collection of radiology examinations for distribution and retrieval,"
    " JAMIA 23, 2016",
)
