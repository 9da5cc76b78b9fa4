"""From rows of text to a cohort before any picture is opened: the one way that every source of tables takes.

`published.read` and `table.read_table` say what the columns are for; here rows become pictures, words become labels,
patients and projections, the pictures are found, and what has no purpose is kept as attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from medsae.cohorts import headers, locate, marks, tabular
from medsae.cohorts.columns import Columns, may_be_patients, split_names
from medsae.cohorts.findings import Labels, votes
from medsae.cohorts.tabular import MISSING, CohortTable
from medsae.config import FromFiles
from medsae.progress import UserError

SOURCES = {"train": "train", "training": "train", "valid": "valid", "validate": "valid", "validation": "valid",
            "val": "valid", "dev": "valid", "test": "test", "testing": "test"}  # fmt: skip
_LATERAL = {"L", "LL", "RL", "LAT", "LLAT", "RLAT"}
_EXAMPLES = 3


@dataclass(frozen=True)
class Rows:
    """The rows of one or more tables, put under one another."""

    table: pd.DataFrame
    """Every column as text."""
    place: Callable[[int], str]
    """Where a row stands, as a person would look it up."""
    main: Path
    """The table that messages name."""
    inputs: dict[str, str]
    source: np.ndarray | None = None
    """Published split of each row by the table it comes from; None: only what a column says."""
    told: list[str] = field(default_factory=list)

    def take(self, rows: np.ndarray) -> Rows:
        """Some of the rows."""
        place = self.place
        return replace(
            self, table=self.table.iloc[rows].reset_index(drop=True), place=lambda row: place(int(rows[row])),
            source=None if self.source is None else self.source[rows],
        )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What a source says beside the columns."""

    title: str
    ways: Callable[[pd.DataFrame, pd.Series], list[locate.Way]]
    """The ways to read the paths, for the rows and paths that are kept."""
    root: Path
    missing: Callable[[], str] = str
    """Says what is known about pictures that are not there."""
    do: str = "give the folder that the paths start from with --root"
    guessed: bool = False
    headers: bool = False
    """What nothing else says of a picture is asked of its own DICOM header."""
    patient_in_path: str | None = None
    study_in_path: str | None = None
    split_in_path: str | None = None
    age_zero_is_unknown: bool = False
    box_label: str = ""
    marks: Sequence[tuple[pd.DataFrame, tuple[str, str, str, str], str, str | None, str, str | None]] = ()
    """(table, box columns, picture column, label column, label where there is none, reader column) of regions that
    stand in tables of their own."""
    picture: str | None = None
    """Column that such tables name a picture by."""
    defined: str = ""
    blank_is_absent: tuple[str, ...] = ()
    views_help: str = "name the column with the projection (--view-column NAME), or leave --views out"


def assemble(rows: Rows, columns: Columns, labels: Labels, config: FromFiles, plan: Plan) -> CohortTable:
    """Images, labels, attributes and marks in table order; rows of regions and readers joined to one a picture."""
    table = rows.table
    written = paths_of(table, columns.path, rows.place)
    told: list[str] = list(labels.told)
    boxes = _boxes_of_rows(table, columns, labels, written, plan)
    runs = _runs_of_rows(table, columns, written, plan, rows.main)
    attributes = _attributes(table, columns, labels, config, rows)
    values_nk = labels.values_nk
    if columns.box or columns.reader or columns.rle:
        first, values_nk, line = _one_row_a_picture(table, columns, written, values_nk, rows.place)
        told.append(line)
        attributes = _joined(attributes, written, first)
    else:
        meant = _meant(rows, columns, labels) if written.duplicated().any() else table
        first, again = tabular.merge_repeats(meant, written, rows.place)
        values_nk = values_nk[first]
        attributes = attributes.iloc[first].reset_index(drop=True)
        if again:
            told.append(f"{again:,} rows are the same as another one: merged")
    rows, written = rows.take(first), written.iloc[first].reset_index(drop=True)
    table = rows.table
    n = len(table)
    patients, whose = _patients(table, columns, written, rows.place, plan)
    facing = _column(table, columns.facing)
    view, frontal = views(_column(table, columns.view), n, facing, written if plan.patient_in_path else None)
    kept = {"frontal": frontal, "lateral": view == "LATERAL", "all": np.ones(n, bool)}[config.views]
    if not kept.any():
        raise UserError(f"no row is known to be a {config.views} picture", rows.main, plan.views_help)
    rows = rows.take(np.flatnonzero(kept))
    table = rows.table
    written, view, frontal = written[kept].reset_index(drop=True), view[kept], frontal[kept]
    values_nk, attributes, patients = values_nk[kept], attributes[kept].reset_index(drop=True), patients[kept]
    source, odd_sources = _sources(rows, columns, written, plan)
    age, odd_ages, ages_line = _ages(table, columns, plan)
    sex_column = _column(table, columns.sex)
    sex = tabular.sexes(sex_column, len(table))
    told += defined(values_nk, labels.names, plan)
    ways = plan.ways(table, written)
    if config.pictures:
        found = locate.find(ways, plan.root, rows.main, config.under, config.allow_missing, plan.do, plan.missing)
        if plan.headers:
            known = _OfHeaders(patients, whose, view, frontal, sex, age, [])
            known = _by_headers(known, columns, written, found, config.views == "all")
            patients, whose, view, frontal = known.patients, known.whose, known.view, known.frontal
            sex, age, told = known.sex, known.age, [*told, *known.told]
    else:
        found = locate.written_only(ways[0])
    if (source != "").any() and "split" not in attributes:
        attributes = attributes.assign(split=pd.Series(source).replace("", None))
    images = pd.DataFrame(
        {
            "image": np.arange(len(table), dtype=np.int32),
            "path": found.paths.to_numpy(object),
            "patient": patients,
            "study": _studies(table, columns, written, plan),
            "source": source,
            "view": view,
            "frontal": frontal,
            "sex": sex,
            "age": age,
        }
    )
    number = pd.Series(np.arange(len(written), dtype=np.int32), index=written.to_numpy(object))
    boxes = [(part.assign(image=number.reindex(part["picture"]).to_numpy())) for part in boxes]
    boxes += _boxes_of_tables(plan, table, told)
    box = _stacked(boxes, told)
    if len(runs):
        runs = runs.assign(image=number.reindex(runs["picture"]).to_numpy()).dropna(subset=["image"])
        runs = runs.astype({"image": np.int32})[["image", "label", "code"]]
        told.append(f"masks: {len(runs):,} outlines of {runs['image'].nunique():,} pictures")
    types = tabular.types_of(attributes)
    understood = [
        f"{plan.title}: {n:,} pictures",
        *rows.told,
        columns.line(plan.guessed, _from_path(columns, plan)),
        *found.told,
        *told,
        *([whose] if whose else []),
        *([f"{odd_ages} ages beyond 0 to 120 years taken as unknown"] if odd_ages else []),
        *ages_line,
        *_unread(sex_column, sex == "", "sex"),
        *odd_sources,
        *_leaks(images),
        *_attribute_lines(types),
        f"views {config.views}: {len(images):,} of {n:,} pictures of {len(set(patients)):,} patients",
        *tabular.counts_lines(values_nk, labels.names),
    ]
    files = pd.DataFrame(
        {"path": found.paths.to_numpy(object), "bytes": found.size, "modified": found.modified}
    )[found.there]  # fmt: skip
    return CohortTable(
        images,
        tabular.long_labels(values_nk, labels.names),
        labels.names,
        understood,
        found.root,
        rows.inputs,
        attributes=attributes,
        types=types,
        boxes=box,
        runs=runs,
        definitions={name: _definition(name, plan) for name in labels.names} if plan.defined else {},
        files=files.reset_index(drop=True),
        home=plan.root,
        digest=found.digest() if config.pictures else None,
    )


def _from_path(columns: Columns, plan: Plan) -> dict[str, str]:
    """Purposes that no column serves, and what does instead."""
    found = {
        what: "the path"
        for what, pattern in (("patient", plan.patient_in_path), ("study", plan.study_in_path),
                              ("split", plan.split_in_path))
        if pattern
    }  # fmt: skip
    return found | ({"age": f"{columns.birth!r} and {columns.date!r}"} if columns.birth and columns.date else {})


# --- pictures and rows ------------------------------------------------------------------------------------------------


def paths_of(table: pd.DataFrame, name: str, place: Callable[[int], str]) -> pd.Series:
    """The paths as they are written, with slashes; raises UserError for a blank one."""
    # Windows wrote some: C:\\Users\\... is looked up by its name.
    written = pd.Series(table[name]).str.strip().str.replace("\\", "/", regex=False).str.removeprefix("./")
    drive = written.str.match(r"[A-Za-z]:/").fillna(False).to_numpy(bool)
    if drive.any():
        written = written.where(~drive, written.str[2:])
    url = written.str.match(r"[A-Za-z][A-Za-z0-9+.-]+://").fillna(False).to_numpy(bool)
    if url.any():  # an URL's path; of file:///data/a.png too
        path = written.str.replace(r"^[^:]+://[^/]*", "", regex=True).str.replace(r"[?#].*$", "", regex=True)
        written = written.where(~url, path.str.removeprefix("/"))
    if written.str.fullmatch(r"\d+\.0").fillna(True).all():
        written = written.str.removesuffix(".0")  # numbers of pictures that went through a table with blanks
    blank = (written.isna() | (written == "")).to_numpy(bool)
    if blank.any():
        raise UserError(f"the path (column {name!r}) is blank", place(int(np.flatnonzero(blank)[0])), "remove the row")
    return written


def _meant(rows: Rows, columns: Columns, labels: Labels) -> pd.DataFrame:
    """The rows as they are understood: "1" and "1.0 " of a label, "3" and "3.0" of a patient are the same."""
    table = rows.table.apply(lambda column: column.str.strip()).drop(columns=[columns.path])
    one_each = len(labels.names) == len(labels.columns)
    read = dict(zip(labels.names, labels.values_nk.T, strict=True)) if one_each else {}
    ids = {name: tabular.identifiers(table[name]) for name in (columns.patient, columns.study)
           if name is not None and name in table}  # fmt: skip
    sides = {} if rows.source is None else {"published split": rows.source}
    return table.assign(**{name: values for name, values in read.items() if name in table}, **ids, **sides)


def _one_row_a_picture(
    table: pd.DataFrame, columns: Columns, written: pd.Series, values_nk: np.ndarray, place: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray, str]:
    """First row of each picture, its labels, and the line that says so."""
    picture, _ = pd.factorize(written)
    reader = pd.factorize(table[columns.reader])[0] + 1 if columns.reader else np.zeros(len(table), dtype=np.int64)
    if not columns.box and not columns.rle and columns.reader:
        both = written + " read by " + pd.Series(table[columns.reader]).fillna("nobody named").astype("str")
        keep, _ = tabular.merge_repeats(table, both, place)
        picture, reader, values_nk, table = picture[keep], reader[keep], values_nk[keep], table.iloc[keep]
        first = keep[np.unique(picture, return_index=True)[1]]
    else:
        first = np.unique(picture, return_index=True)[1]
    readers = (
        f"{len(set(reader[reader > 0].tolist()))} readers, the majority counts, a draw is uncertain"
        if columns.reader
        else "a finding is present if any of them says so"
    )
    line = f"{len(table):,} rows joined to {len(first):,} pictures ({readers})"
    return first, votes(values_nk, picture, reader), line


def _joined(attributes: pd.DataFrame, written: pd.Series, first: np.ndarray) -> pd.DataFrame:
    """Attributes of the first row of each picture; where rows of a picture differ, their distinct values."""
    picture, _ = pd.factorize(written)
    out = {}
    for name in attributes.columns:
        column = pd.Series(attributes[name])
        code = pd.factorize(column)[0]
        differs = np.unique(picture[code != code[first][picture]])
        values = column.iloc[first].to_numpy(object, copy=True)
        if len(differs):
            among = column[np.isin(picture, differs)].dropna()
            joined = among.groupby(picture[among.index]).agg(lambda v: " | ".join(dict.fromkeys(map(str, v))))
            values[joined.index.to_numpy()] = joined.to_numpy(object)
        out[name] = values
    return pd.DataFrame(out, index=range(len(first)), dtype="str" if out else None)


# --- who, where, when -------------------------------------------------------------------------------------------------


def views(
    column: pd.Series | None, n: int, facing: pd.Series | None = None, written: pd.Series | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Projection str [n] (AP, PA, LATERAL, another code in capitals, or ""); whether known to be frontal, bool [n].

    `facing` says frontal or lateral beside the projection; without it `written` paths that say so are believed.
    """
    code = np.full(n, "", dtype=object)
    if column is not None:
        code = tabular.by_word(column, lambda word: word.strip().upper()).fillna("").to_numpy(object)
    if facing is not None:
        word = tabular.by_word(facing, lambda word: word.strip().lower()).fillna("")
        frontal, lateral = (word == "frontal").to_numpy(bool), (word == "lateral").to_numpy(bool)
        if column is not None and column.name == facing.name:
            code = np.full(n, "", dtype=object)
    elif column is None and written is not None:
        frontal = written.str.contains("frontal", regex=False).to_numpy(bool)
        lateral = written.str.contains("lateral", regex=False).to_numpy(bool)
    else:
        text = code.astype(str)
        lateral = np.isin(text, list(_LATERAL)) | np.char.endswith(text, "LATERAL")
        frontal = ~lateral & (np.char.startswith(text, "AP") | np.char.startswith(text, "PA") | (text == "FRONTAL"))
    return np.where(lateral, "LATERAL", code).astype(object), frontal


def _column(table: pd.DataFrame, name: str | None) -> pd.Series | None:
    return None if name is None else pd.Series(table[name])


def _patients(
    table: pd.DataFrame, columns: Columns, written: pd.Series, place: Callable[[int], str], plan: Plan
) -> tuple[np.ndarray, str]:
    """The patients: their column, else the folder called patient... in the paths, else the picture itself."""
    if columns.patient is None:
        # CheXpert's folders, and MIMIC-CXR's: files/p10/p10000032/s50414267.
        pattern = plan.patient_in_path or r"(?:^|/)(patient[^/]+|p1\d{7})/"
        folder = tabular.first_group(written, pattern)
        if plan.patient_in_path and folder.isna().any():
            row = int(np.flatnonzero(folder.isna())[0])
            raise UserError(
                f"the path {written.iloc[row]!r} names no patient",
                place(row),
                "paths look like train/patient00001/study1/view1_frontal.jpg; for another layout use: ingest table",
            )
        if folder.isna().any():
            maybe = may_be_patients(table, columns.purposes()) if plan.guessed else []
            hint = f"; values repeat in {', '.join(map(repr, maybe[:4]))}" if maybe else ""
            return written.to_numpy(object), (
                "no patient column: every picture counts as a patient of its own"
                + (f" (name it: --patient-column NAME{hint})" if plan.guessed else "")
            )
        said = (
            ""
            if plan.patient_in_path
            else f"no patient column: patients taken from the folders such as {folder.iloc[0]}"
        )
        return folder.to_numpy(object), said + (" in the paths" if said else "")
    text = tabular.identifiers(pd.Series(table[columns.patient]))
    blank = text.isna().to_numpy(bool)
    if blank.any():
        raise UserError(
            f"column {columns.patient!r} is blank in {int(blank.sum()):,} rows: whose pictures are these?",
            place(int(np.flatnonzero(blank)[0])),
            "patients must be known to be kept apart; complete the rows or remove them",
        )
    return text.to_numpy(object), ""


@dataclass(frozen=True)
class _OfHeaders:
    """What is known of the pictures when their DICOM headers have been asked for what nothing else says."""

    patients: np.ndarray
    whose: str
    view: np.ndarray
    frontal: np.ndarray
    sex: np.ndarray
    age: np.ndarray
    told: list[str]


def _by_headers(
    known: _OfHeaders, columns: Columns, written: pd.Series, found: locate.Found, all_views: bool
) -> _OfHeaders:
    """Pictures that count as a patient of their own get the patient of their header, where it names one; view, sex and
    age, where no column says them."""
    alone = (known.patients == written.to_numpy(object)) & found.there
    wanted = [what for what, has in (("view", columns.view or columns.facing or not all_views), ("sex", columns.sex),
                                     ("age", columns.age or columns.birth)) if not has]  # fmt: skip
    read = headers.read(found.root, found.paths.tolist()) if alone.any() or wanted else None
    if read is None:
        return known
    told: list[str] = []
    patients, whose = known.patients.copy(), known.whose
    of = np.array([one.patient for one in read], dtype=object)
    taken = alone & np.array([who is not None for who in of])
    if taken.any():
        patients[taken] = of[taken]
        line = (f"{int(taken.sum()):,} pictures have their patient from their DICOM header (PatientID): "
                f"{len(set(patients[taken])):,} patients")  # fmt: skip
        whose = line if taken.all() else "; ".join(filter(None, (whose, line)))
    n, said = len(read), {what: pd.Series([getattr(one, what) for one in read], dtype="str") for what in wanted}
    said = {what: column for what, column in said.items() if column.notna().any()}
    if said:
        told.append("from the DICOM headers: " + ", ".join(
            f"{what} of {int(column.notna().sum()):,} pictures" for what, column in said.items()))  # fmt: skip
    view, frontal = views(said["view"], n) if "view" in said else (known.view, known.frontal)
    return _OfHeaders(patients, whose, view, frontal, tabular.sexes(said["sex"], n) if "sex" in said else known.sex,
                      tabular.ages(said["age"], n)[0] if "age" in said else known.age, told)  # fmt: skip


def _studies(table: pd.DataFrame, columns: Columns, written: pd.Series, plan: Plan) -> np.ndarray:
    if columns.study is not None:
        return tabular.identifiers(pd.Series(table[columns.study])).fillna("").to_numpy(object)
    if plan.study_in_path:
        return tabular.first_group(written, plan.study_in_path).fillna("").to_numpy(object)
    return np.full(len(table), "", dtype=object)


def _ages(table: pd.DataFrame, columns: Columns, plan: Plan) -> tuple[np.ndarray, int, list[str]]:
    if columns.age is None and columns.birth is not None and columns.date is not None:
        year = pd.Series(pd.to_numeric(table[columns.date].str.replace("-", ""), errors="coerce"))
        year = year.where(year < 10_000, year // 10_000)
        born = pd.Series(pd.to_numeric(table[columns.birth].str.replace("-", ""), errors="coerce"))
        born = born.where(born < 10_000, born // 10_000)
        ages, odd = tabular.ages(year - born, len(table))
        return ages, odd, []
    column = _column(table, columns.age)
    ages, odd = tabular.ages(column, len(table))
    unread = [] if odd else _unread(column, np.isnan(ages), "age")
    if plan.age_zero_is_unknown:
        ages[ages == 0] = np.nan
    return ages, odd, unread


def _unread(column: pd.Series | None, unknown: np.ndarray, what: str) -> list[str]:
    """A line about cells that say something that was not understood."""
    if column is None:
        return []
    said = unknown & column.notna().to_numpy(bool)
    if not said.any():
        return []
    words = column[said].str.strip()
    words = words[~words.str.lower().isin(["", "unknown", "u", "none", "not stated"])]
    if not len(words):
        return []
    examples = ", ".join(f"{word!r} ({count:,})" for word, count in words.value_counts().iloc[:_EXAMPLES].items())
    return [f"column {column.name!r}: {len(words):,} cells taken as unknown {what}: {examples}"]


def _sources(rows: Rows, columns: Columns, written: pd.Series, plan: Plan) -> tuple[np.ndarray, list[str]]:
    """Published split as train, valid, test or "", str [n], and a line about words that are none of these."""
    source = np.full(len(written), "", dtype=object) if rows.source is None else rows.source.astype(object)
    told: list[str] = []
    if columns.split is not None:
        column = pd.Series(rows.table[columns.split])
        word = tabular.by_word(column, lambda word: word.strip().lower())
        named = word.map(SOURCES).fillna("").to_numpy(object)
        odd = (word.notna() & (named == "")).to_numpy(bool)
        if odd.any():
            examples = ", ".join(map(repr, pd.unique(column[odd])[:_EXAMPLES]))
            told = [f"{int(odd.sum())} rows with a split that is not train, valid or test ({examples}): taken as no"
                    " split"]  # fmt: skip
        source = np.where(source == "", named, source)
    if plan.split_in_path:
        folder = tabular.first_group(written, plan.split_in_path).fillna("").to_numpy(object)
        source = np.where(source == "", folder, source)
    return source, told


def _leaks(images: pd.DataFrame) -> list[str]:
    sides = images.loc[images["source"] != "", ["patient", "source"]].drop_duplicates()
    shared = int(sides["patient"].duplicated().sum())
    return [f"the published split has {shared:,} patients on more than one side"] if shared else []


# --- labels -----------------------------------------------------------------------------------------------------------


def defined(values_nk: np.ndarray, names: tuple[str, ...], plan: Plan) -> list[str]:
    """Fill blanks that mean absent by the publisher's definition, in place; lines that say so.

    A row that states nothing at all was not labelled: it stays as it is.
    """
    told = [f"labels were {plan.defined}"] if plan.defined else []
    labelled = (values_nk != MISSING).any(axis=1)
    for name in plan.blank_is_absent:
        if name not in names:
            continue
        j = names.index(name)
        blank = labelled & (values_nk[:, j] == MISSING)
        values_nk[blank, j] = 0
        others = [i for i, other in enumerate(names) if other not in (name, "Support Devices")]
        against = int(((values_nk[:, j] == 1) & np.isin(values_nk[:, others], (1, -1)).any(axis=1)).sum())
        told.append(
            f"{name}: {int(blank.sum()):,} blanks are absent by definition"
            + (f"; {against:,} rows say {name} beside another finding: kept as stated" if against else "")
        )
    return told


def _definition(name: str, plan: Plan) -> str:
    return plan.defined + ("; blank is absent" if name in plan.blank_is_absent else "")


# --- attributes -------------------------------------------------------------------------------------------------------


def _attributes(table: pd.DataFrame, columns: Columns, labels: Labels, config: FromFiles, rows: Rows) -> pd.DataFrame:
    """Every column without a purpose of its own; `--drop-columns` must name columns of the tables."""
    dropped = split_names(config.drop_columns)
    unknown = [name for name in dropped if name not in table]
    if unknown:
        raise UserError(
            f"--drop-columns names {', '.join(map(repr, unknown))}, which the table lacks",
            rows.main,
            f"its columns are: {', '.join(map(str, table.columns))}",
        )
    # The words of a published split stay beside what was understood of them.
    taken = (columns.purposes() - {columns.split}) | labels.columns | set(dropped)
    return table[[name for name in table.columns if name not in taken]]


def _attribute_lines(types: dict[str, str]) -> list[str]:
    if not types:
        return []
    return ["kept as attributes: " + ", ".join(f"{name} ({kind})" for name, kind in types.items())]


# --- marks ------------------------------------------------------------------------------------------------------------


def _boxes_of_rows(
    table: pd.DataFrame, columns: Columns, labels: Labels, written: pd.Series, plan: Plan
) -> list[pd.DataFrame]:
    """Regions that stand in the rows of the table itself, with the path of their picture."""
    if columns.box is None:
        return []
    if plan.box_label:
        label = np.full(len(table), plan.box_label, dtype=object)
    elif columns.finding is not None:
        label = table[columns.finding].fillna("").to_numpy(object)
    else:
        # The label that the row states.
        has = (labels.values_nk == 1).any(axis=1)
        label = np.where(has, np.array(labels.names, dtype=object)[(labels.values_nk == 1).argmax(axis=1)], "")
    reader = table[columns.reader].fillna("").to_numpy(object) if columns.reader else np.full(len(table), "", object)
    found, _ = marks.boxes(table, columns.box, np.arange(len(table)), label, reader)
    return [found.assign(picture=written.to_numpy(object)[found["image"].to_numpy()])]


def _boxes_of_tables(plan: Plan, table: pd.DataFrame, told: list[str]) -> list[pd.DataFrame]:
    if plan.picture is None or not plan.marks:
        return []
    number = pd.Series(np.arange(len(table)), index=table[plan.picture].to_numpy(object))
    number = number[~number.index.duplicated()]
    out = []
    for part, box, picture, label, means, reader in plan.marks:
        image = number.reindex(part[picture].to_numpy(object)).fillna(-1).to_numpy(int)
        labels = part[label].fillna("").to_numpy(object) if label else np.full(len(part), means, dtype=object)
        readers = part[reader].fillna("").to_numpy(object) if reader else np.full(len(part), "", dtype=object)
        found, odd = marks.boxes(part, box, image, labels, readers)
        if odd:
            told.append(f"{odd:,} regions cannot be read and are left out")
        out.append(found)
    return out


def _stacked(parts: list[pd.DataFrame], told: list[str]) -> pd.DataFrame:
    if not parts:
        return pd.DataFrame(columns=list(marks.BOX_COLUMNS))
    found = pd.concat([part.dropna(subset=["image"])[list(marks.BOX_COLUMNS)] for part in parts], ignore_index=True)
    told.append(f"boxes: {len(found):,} regions of {found['image'].nunique():,} pictures")
    return found.astype({"image": np.int32})


def _runs_of_rows(table: pd.DataFrame, columns: Columns, written: pd.Series, plan: Plan, where: Path) -> pd.DataFrame:
    if columns.rle is None:
        return pd.DataFrame(columns=["image", "label", "code"])
    code = pd.Series(table[columns.rle])
    marks.refuse_codes(code, where)
    there = marks.is_mask(code)
    return pd.DataFrame(
        {
            "picture": written.to_numpy(object)[there],
            "label": plan.box_label or str(columns.rle),
            "code": code.to_numpy(object)[there],
        }
    )
