"""What a published data set looks like, said in data: the tables of its download, their columns, where pictures lie.

A source is one module of `offered` that declares this and registers itself (`offer`); `published.read` does the work.
Nothing heavy is imported here: the command line and the web server read these declarations to know their options.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from medsae.config import FromFiles
from medsae.plugins import Source, sources


@dataclass(frozen=True, kw_only=True)
class File:
    """A table of the download, looked for by its name in the folder and the folders in it; also packed (.gz, .zip)."""

    names: tuple[str, ...]
    """Names or patterns such as "mimic-cxr-2.*-split.csv"; the first that is there counts."""
    split: str = ""
    """Published split that every row belongs to: train, valid or test."""
    needed: bool = False
    """Without it nothing can be read."""
    header: tuple[str, ...] = ()
    """The columns of a list without a header whose cells are parted by blanks; the picture's name may hold blanks."""


@dataclass(frozen=True, kw_only=True)
class Join:
    """A table whose columns are joined to the rows by columns that both have."""

    file: File
    on: Mapping[str, str]
    """Column of the rows -> column of this table."""
    prefix: str = ""
    """Put before the name of each joined column, which is then an attribute and no label."""


@dataclass(frozen=True, kw_only=True)
class Marks:
    """A table of marked regions beside the labels."""

    file: File
    picture: str
    """Column with the picture, as the table of labels names it."""
    label: str | None = None
    """Column with what is marked; None: `means`."""
    means: str = ""
    reader: str | None = None


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The layout of a data set. Columns are given by name, as alternatives where versions of the data set differ."""

    tables: tuple[File, ...]
    """Tables with a row for each picture (or region, or reader); they are put under one another."""
    path: tuple[str, ...]
    """Where a picture lies below the folder, as patterns over columns: "files/p{subject_id:.2}/{dicom_id}.jpg".
    They are tried in their order; a picture that is at none of them is looked up by its name."""
    picture: tuple[str, ...] = ()
    """The column that names the picture, where rows of several tables or regions are brought together."""
    joins: tuple[Join, ...] = ()
    lists: tuple[File, ...] = ()
    """Text files with the name of a picture in each line: those of `split`."""
    labels: tuple[str, ...] | None = None
    """Label columns; None: those whose values look like labels."""
    finding: tuple[str, ...] = ()
    """Column with findings in one string."""
    findings: tuple[str, ...] = ()
    """The findings that are labels; empty: all that occur."""
    separators: str = "|"
    negative: str = "No Finding"
    terms: Mapping[str, str] = field(default_factory=dict)
    """Finding as it is written -> what its label is called."""
    not_stated: tuple[str, ...] = ()
    """Words of the finding column that state nothing."""
    patient: tuple[str, ...] = ()
    patient_in_path: str | None = None
    """Pattern whose first group is the patient, where no column names him."""
    study: tuple[str, ...] = ()
    study_in_path: str | None = None
    split: tuple[str, ...] = ()
    split_in_path: str | None = None
    view: tuple[str, ...] = ()
    facing: tuple[str, ...] = ()
    """Frontal or lateral, beside the projection."""
    sex: tuple[str, ...] = ()
    age: tuple[str, ...] = ()
    age_zero_is_unknown: bool = False
    birth: tuple[str, ...] = ()
    date: tuple[str, ...] = ()
    reader: tuple[str, ...] = ()
    rle: tuple[str, ...] = ()
    box: tuple[str, str, str, str] | None = None
    """Columns of the region of a row: x, y, width, height, or two corners."""
    box_label: str = ""
    """What such a region marks, where no finding column says so."""
    marks: tuple[Marks, ...] = ()
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> values of the rows that are radiographs; others are left out and counted."""
    defined: str = ""
    """One sentence: who stated the labels, and what a value means."""
    blank_is_absent: tuple[str, ...] = ()
    """Labels whose blank means absent by the publisher's definition."""
    beside: tuple[str, ...] = ()
    """Patterns of folders that lie beside each other and hold the pictures together (CheXpert's batches)."""
    about: tuple[str, ...] = ()
    """What users should know, one sentence each."""


@dataclass(frozen=True, kw_only=True)
class Published(FromFiles):
    """The options of a published data set."""

    declaration: ClassVar[Declaration]

    def layout(self) -> Declaration:
        """The declaration for these options."""
        return self.declaration


def offer(options: type[Published], *, label: str, help: str, order: int, licence: str, citation: str) -> None:
    """Register a published data set: `options` is its config class, whose `declaration` says what it looks like."""
    sources.register(
        Source(
            name=options.source, label=label, help=help, load="medsae.cohorts.published:read", options=options,
            order=order, licence=licence, citation=citation, recognise=f"{options.__module__}:recognise",
        )
    )  # fmt: skip


def recogniser(options: type[Published]) -> Callable[[Path], Any]:
    """`recognise(folder) -> config | None` of a data set: whether a folder holds the tables that it declares."""

    def recognise(folder: Path) -> Any:
        return importlib.import_module("medsae.cohorts.published").recognise(folder, options)

    return recognise
