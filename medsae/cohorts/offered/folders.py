"""Pictures sorted into folders by class, as many downloads of Kaggle are."""

from dataclasses import dataclass

from medsae.config import FromFiles
from medsae.plugins import Source, sources


@dataclass(frozen=True, kw_only=True)
class IngestFolders(FromFiles):
    """Pictures in folders called after their class, no table: train/NORMAL/, train/PNEUMONIA/, COVID/images/."""

    negative: str = "Normal"
    """Class that means none of the others."""

    source = "folders"


sources.register(
    Source(
        name="folders",
        label="Folders of classes",
        help="Pictures in folders called after their class, in splits or not; no table.",
        load="medsae.cohorts.class_folders:read",
        recognise="medsae.cohorts.class_folders:recognise",
        options=IngestFolders,
        any_folder=True,
        order=210,
    )
)
