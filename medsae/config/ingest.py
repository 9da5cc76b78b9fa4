"""`ingest`: where radiographs and labels come from, and how patients are divided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medsae import files
from medsae.config.base import Command, Protocol, Sharded, added, check, runtime

CHEXPERT_LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
"""The 14 labels of CheXpert in the column order of its tables; labels are always joined by name."""


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How patients are divided, and how the balanced evaluation set is drawn (paper, section 4.1)."""

    protocol: Protocol = "strict"
    """`strict`: patients disjoint between training, hold-out and evaluation. `paper`: the published walk."""
    per_class: int = 200
    """Pictures a class in the balanced evaluation set (CheXpert 14x200)."""
    evaluation_share: float = 0.25
    """Share of patients kept for evaluation (strict)."""
    holdout_share: float = 0.05
    """Share of patients kept for the hold-out metrics of the SAE (strict)."""
    division: Literal["stratified", "hashed"] = "stratified"
    """strict: `stratified` gives every split its share of each label; `hashed` looks at the patient alone."""
    shuffled: bool = added(False)
    """paper: walk the table in a random order (by --seed), as the published scripts do; else in its own order."""
    seed: int = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        check(self.per_class >= 1, f"--per-class {self.per_class} must be at least 1")
        for name in ("evaluation_share", "holdout_share"):
            check(0 <= getattr(self, name) < 1, f"--{name.replace('_', '-')} must lie in [0, 1)")
        check(self.evaluation_share + self.holdout_share < 1,
              "--evaluation-share and --holdout-share leave no patients to train on")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FromFiles(Splitting, Sharded, Command):
    """What every source takes whose pictures are files; a published data set adds its own options."""

    root: Path
    """The folder of the data set as it was downloaded and unpacked; or s3://BUCKET/PREFIX (gs, az, hf)."""
    views: Literal["frontal", "lateral", "all"] = "all"
    """Which projections to take."""
    pictures: bool = True
    """Decode and check the pictures; without, only the tables are read and no thumbnails are made."""
    under: str | None = None
    """Take only pictures below this folder of --root (a name, or a pattern such as "images_*" or "*.png")."""
    drop_columns: str | None = None
    """Comma-separated columns that must not be kept as attributes (names of people, reports)."""
    allow_missing: bool = runtime(False)
    """Go on when fewer than half of the pictures are found."""
    allow_outside: bool = runtime(False)
    """Take pictures that the table names outside --root (`../`, an absolute path), whatever they are."""
    workers: int | None = runtime(None)
    """Processes that decode (default: one a core)."""

    step = "ingest"
    makes = "cohort"
    source = ""

    def __post_init__(self) -> None:
        Splitting.__post_init__(self)
        Sharded.__post_init__(self)
        check(self.workers is None or self.workers >= 1, f"--workers {self.workers} must be at least 1")
        # Absolute from the start: a relative folder would make two studies one, and a job started elsewhere fail.
        if self.root is not None:
            object.__setattr__(self, "root", files.absolute(self.root))


@dataclass(frozen=True, kw_only=True)
class IngestTable(FromFiles):
    """Any table (CSV, JSON lines, Parquet, Excel) with a column of picture paths and columns of labels."""

    table: Path
    """The table."""
    root: Path | None = None  # type: ignore[assignment]
    """Folder that the paths are relative to (default: the table's folder)."""
    path_column: str | None = None
    """Column with the picture's path (default: guessed, and said)."""
    label_columns: str | None = None
    """Comma-separated label columns (default: guessed, and said)."""
    finding_column: str | None = None
    """Column with findings in one string, such as NIH's "A|B"; also "['A', 'B']" of PadChest."""
    finding_separators: str | None = None
    """Characters that part the findings of one string, such as "|", ";,", or "," with levels "/" (default: guessed)."""
    negative: str = "No Finding"
    """Finding that means none of the others."""
    threshold: float | None = None
    """Label columns hold numbers from 0 to 1: from this one on a label is present, below it absent."""
    patient_column: str | None = None
    """Column with the patient (default: guessed; without any, every picture is its own patient, and it is said)."""
    study_column: str | None = None
    """Column with the study."""
    view_column: str | None = None
    """Column with the projection (PA, AP, LATERAL ...)."""
    sex_column: str | None = None
    """Column with the sex."""
    age_column: str | None = None
    """Column with the age in years."""
    split_column: str | None = None
    """Column with a published split (train, valid/validate/val, test)."""

    source = "table"

    def __post_init__(self) -> None:
        FromFiles.__post_init__(self)
        object.__setattr__(self, "table", files.absolute(self.table))
        check(self.threshold is None or 0 < self.threshold <= 1, f"--threshold {self.threshold} must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class IngestSimulated(Splitting, Command):
    """Radiographs projected from a real chest CT with planted findings: the truth is known."""

    images: int = 10_000
    """Number of pictures."""
    size: int = 320
    """Side of a picture in px."""
    division: Literal["stratified", "hashed"] = added("hashed")
    """strict: `hashed` looks at the patient alone; `stratified` gives every split its share of each label."""
    workers: int | None = runtime(None)
    """Processes that draw (default: one a core)."""

    step = "ingest"
    makes = "cohort"
    source = "simulated"

    def __post_init__(self) -> None:
        Splitting.__post_init__(self)
        check(self.images >= 1, f"--images {self.images} must be at least 1")
        check(self.size >= 64, f"--size {self.size} must be at least 64")
