"""One table in every dialect that people keep, and words that mean the same."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from medsae import dialects
from medsae.cohorts import tabular
from medsae.cohorts.findings import guess_separators, parse_findings
from medsae.cohorts.table import read_table
from medsae.cohorts.tabular import MISSING, UNREADABLE
from medsae.config import IngestTable
from medsae.progress import UserError

ROWS = [("path", "patient", "Edema", "Masse"), ("a/é.png", "003", "1", "Yes"), ("b.png", "3", "0", "No"),
        ("c.png", "7", "-1", "")]  # fmt: skip
CSV = "\n".join(",".join(row) for row in ROWS) + "\n"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def as_json(rows: list[tuple[str, ...]]) -> list[dict[str, str | None]]:
    return [dict(zip(rows[0], [cell or None for cell in row], strict=True)) for row in rows[1:]]


def zipped(text: str, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("t.csv", text)


def in_a_book(path: Path) -> None:
    """As hospitals keep it: a sheet of remarks, a title above the table, formatted cells below it."""
    table = pd.DataFrame(as_json(ROWS))
    with pd.ExcelWriter(path, engine="openpyxl") as book:
        pd.DataFrame({"About": ["who exported this"]}).to_excel(book, sheet_name="README", index=False)
        table.to_excel(book, sheet_name="data", index=False, startrow=2)
        book.sheets["data"].cell(1, 1).value = "Exported from the PACS"
        book.sheets["data"].cell(30, 2).value = " "


DIALECTS: dict[str, str | bytes | Callable[[Path], object]] = {
    "comma": CSV,
    "semicolon": CSV.replace(",", ";"),
    "tab": CSV.replace(",", "\t"),
    "bar": CSV.replace(",", "|"),
    "sep=": "sep=;\n" + CSV.replace(",", ";"),
    "quoted": "\n".join(",".join(f'"{cell}"' for cell in row) for row in ROWS),
    "blanks after commas": CSV.replace(",", ", "),
    "windows lines": CSV.replace("\n", "\r\n"),
    "mark": b"\xef\xbb\xbf" + CSV.encode(),
    "utf-16": CSV.encode("utf-16"),
    "utf-16 without a mark": CSV.replace(",", "\t").encode("utf-16-le"),
    "latin-1": CSV.encode("latin-1"),
    "gzip": gzip.compress(CSV.encode("utf-16"), mtime=0),
    "bzip2": bz2.compress(CSV.encode()),
    "xz": lzma.compress(CSV.replace(",", ";").encode()),
    "zip": lambda path: zipped(CSV, path),
    "json lines": "\n".join(json.dumps(row) for row in as_json(ROWS)) + "\n",
    "json lines packed": gzip.compress("\n".join(json.dumps(row) for row in as_json(ROWS)).encode()),
    "json array": json.dumps(as_json(ROWS), indent=1),
    "parquet": lambda path: pd.DataFrame(as_json(ROWS)).to_parquet(path),
    "lines of old Macs": CSV.replace("\n", "\r"),
    "a title above": "Exported 2024-01-02\n\n" + CSV,
    "a title above, filled up": "# Exported 2024-01-02;;;\n" + CSV.replace(",", ";"),
    "blank rows of a spreadsheet": CSV.replace("b.png", ",,,\nb.png") + ",,,\n , ,,\n\n",
    "feather": lambda path: pd.DataFrame(as_json(ROWS)).to_feather(path),
    "parquet whose index is the path": lambda path: pd.DataFrame(as_json(ROWS)).set_index("path").to_parquet(path),
    "json by columns": json.dumps({name: {i: row[name] for i, row in enumerate(as_json(ROWS))} for name in ROWS[0]}),
    "json split": json.dumps(
        {"columns": ROWS[0], "index": [0, 1, 2], "data": [[c or None for c in r] for r in ROWS[1:]]}
    ),
    "json of lists": json.dumps(dict(zip(ROWS[0], map(list, zip(*ROWS[1:], strict=True)), strict=True))),
    "json below a key": json.dumps({"info": {"version": 1}, "images": as_json(ROWS)}, indent=1),
    "json lines with an object": "\n".join(
        json.dumps({"path": row[0], "patient": row[1], "labels": {"Edema": row[2], "Masse": row[3] or None}})
        for row in ROWS[1:]
    ),
    "excel": in_a_book,
    "an index in front": ",".join(["", *ROWS[0]])
    + "\n"
    + "".join(f"{i},{','.join(r)}\n" for i, r in enumerate(ROWS[1:])),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_one_table_in_every_dialect(dialect: str, tmp_path: Path) -> None:
    path, content = tmp_path / "table.dat", DIALECTS[dialect]
    content(path) if callable(content) else written(path, content)
    table = dialects.read(path).table
    assert list(table.columns) == list(ROWS[0])
    assert [[str(c) for c in row] for row in table.fillna("").to_numpy()] == [list(row) for row in ROWS[1:]]


def test_decimal_commas_are_no_separator_though_every_row_has_as_many(tmp_path: Path) -> None:
    table = dialects.read(written(tmp_path / "t.csv", "path;Edema;Mass\na.png;1,0;0,0\nb.png;0,0;1,0\n")).table
    assert list(table.columns) == ["path", "Edema", "Mass"] and table["Mass"].tolist() == ["0,0", "1,0"]


def test_excel_where_the_engine_is_there(tmp_path: Path) -> None:
    pd.DataFrame(as_json(ROWS)).to_excel(tmp_path / "t.xlsx", index=False)
    assert dialects.read(tmp_path / "t.xlsx").table["patient"].tolist() == ["003", "3", "7"]


def test_rows_of_embeddings_are_read_from_excel_and_from_any_other_dialect(tmp_path: Path) -> None:
    """`embed --rows`: the same reader as ingest's; a file without a header keeps its first line as a row."""
    from medsae.encoders import rows

    paths = ["a/1.png", "a/2.png", "b/3.png"]
    table = pd.DataFrame({"n": [1, 2, 3], "Path": paths})
    table.to_excel(tmp_path / "t.xlsx", index=False)
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv.gz", sep=";", index=False, encoding="utf-16")
    written(tmp_path / "t.jsonl", "\n".join(json.dumps({"n": i, "Path": p}) for i, p in enumerate(paths)))
    written(tmp_path / "t.json", json.dumps([{"Path": p} for p in paths]))
    written(tmp_path / "list.json", json.dumps(paths))
    for name in ("t.xlsx", "t.parquet", "t.csv.gz", "t.jsonl", "t.json", "list.json"):
        said: list[str] = []
        assert rows.row_paths(tmp_path / name, said) == paths and not said, name
    written(tmp_path / "bare.txt", "\n".join(paths) + "\n")
    written(tmp_path / "numbers.csv", "a/1.png,0.5,0.5\na/2.png,0.5,1\nb/3.png,0,0\n")
    for name in ("bare.txt", "numbers.csv"):
        said = []
        assert rows.row_paths(tmp_path / name, said) == paths and "no header" in said[0], name


def test_excel_without_the_engine_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "t.xlsx", "w") as archive:
        archive.writestr("xl/workbook.xml", "")

    def missing(*_: object, **__: object) -> None:
        raise ImportError("openpyxl")

    monkeypatch.setattr(pd, "read_excel", missing)
    with pytest.raises(UserError, match="pip install openpyxl"):
        dialects.read(tmp_path / "t.xlsx")


def test_types_of_parquet_become_the_words_that_were_meant(tmp_path: Path) -> None:
    pd.DataFrame({"id": [7.0, np.nan, 9.0], "yes": [True, False, True], "day": pd.to_datetime(["2020-01-02"] * 3),
                  "labels": [["a", "b"], [], None]}).to_parquet(tmp_path / "t.parquet")  # fmt: skip
    table = dialects.read(tmp_path / "t.parquet").table
    assert table["id"].fillna("").tolist() == ["7", "", "9"] and table["yes"].tolist() == ["True", "False", "True"]
    assert table["day"][0] == "2020-01-02" and table["labels"].fillna("").tolist() == ["['a', 'b']", "[]", ""]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "empty"),
        ("path,Edema\n", "no rows"),
        (b"\x00\x01\x02\x03" * 50, "no text"),
        ("path,Edema\na.png,1,0,1\n", "more cells than the header"),
        ('{"path": "a.png"}\n{"path": \n', r"no JSON object(.|\n)*line 2"),
        ("path,Edema,Edema\na,1,1\n", "two columns are called 'Edema'"),
        (b"PAR1 but not really", "cannot be read"),
        ("path,Edema\na.png,1\nb,c.png,1\n", "line 3 has 3 cells, the header has 2"),
        ('path,Edema\na.png,1\n"b.png,1\n', "a quote opens in row 2 and is never closed"),
        ("<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\x80\x04\x95\x00\x00", "pickle"),
        (b"\x89PNG\r\n\x1a\n", "a picture"),
        (gzip.compress(CSV.encode() * 50, mtime=0)[:-30], "cannot be read"),
    ],
)
def test_what_cannot_be_read_says_why(content: str | bytes, what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=what):
        dialects.read(written(tmp_path / "t.csv", content))


def test_places_are_lines_of_the_file(tmp_path: Path) -> None:
    assert dialects.read(written(tmp_path / "a.csv", CSV)).place(0).endswith("a.csv, line 2")
    assert dialects.read(written(tmp_path / "b.csv", "sep=,\n" + CSV)).place(0).endswith("line 3")
    assert dialects.read(written(tmp_path / "d.csv", CSV.replace("b.png", ",,,\nb.png"))).place(1).endswith("line 4")
    assert dialects.read(written(tmp_path / "e.csv", "A title\n" + CSV)).place(0).endswith("line 3")
    lines = "\n".join(json.dumps(row) for row in as_json(ROWS))
    assert dialects.read(written(tmp_path / "c.jsonl", lines)).place(1).endswith("line 2")


def test_words_of_labels() -> None:
    words = ["1", "1.0", "1,0", " Yes", "TRUE", "y", "Positive", "0", "0.0", "no", "N", "False", "negative", "-1",
             "-1,0", "uncertain", "", None, "nan", "None", "2", "0.5", "maybe"]  # fmt: skip
    values, odd = tabular.values_of(pd.Series(words, dtype="object"))
    assert values.tolist() == [1] * 7 + [0] * 6 + [-1] * 3 + [MISSING] * 4 + [UNREADABLE] * 3
    assert odd.to_dict() == {"2": 1, "0.5": 1, "maybe": 1}
    assert tabular.values_of(pd.Series(["0.2", "0.5", "0.9", ""]), 0.5)[0].tolist() == [0, 1, 1, MISSING]


def test_identifiers_keep_zeros_and_lose_the_point() -> None:
    column = pd.Series(["3", "3.0", "003", " 3 ", "", None, "1.2.840", "12.50"], dtype="object")
    assert tabular.identifiers(column).fillna("blank").tolist() == [
        "3", "3", "003", "3", "blank", "blank", "1.2.840", "12.50",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("strings", "text", "findings"),
    [
        (["A|B", "A"], "A|B", ["A", "B"]),
        (["COVID-19, ARDS", "COVID-19", "ARDS"], "COVID-19, ARDS", ["COVID-19", "ARDS"]),
        (["Pleural effusion, left", "Edema"], "Pleural effusion, left", ["Pleural effusion, left"]),
        (["Pneumonia/Viral", "Pneumonia/Bacterial"], "Pneumonia/Viral", ["Pneumonia", "Viral"]),
        (["Nodule/Mass", "Edema"], "Nodule/Mass", ["Nodule/Mass"]),
        (["No Lung Opacity / Not Normal", "Normal"], "No Lung Opacity / Not Normal", ["No Lung Opacity / Not Normal"]),
    ],
)
def test_separators_are_told_from_the_whole_column(strings: list[str], text: str, findings: list[str]) -> None:
    assert parse_findings(text, guess_separators(strings)) == findings


def read(path: Path, text: str, **options: object):
    return read_table(IngestTable(table=written(path, text), pictures=False, **options))  # type: ignore[arg-type]


def test_other_columns_are_attributes_with_a_type(tmp_path: Path) -> None:
    csv = "path,patient,Edema,ward,dose,day,note,secret\n" + "".join(
        f"{i}.png,{i},{i % 2},{'AB'[i % 2]},{i}.5,2020-01-{i + 1:02},a long remark number {i},x\n" for i in range(9)
    )
    table = read(tmp_path / "t.csv", csv, drop_columns="secret")
    assert table.types == {"ward": "category", "dose": "number", "day": "date", "note": "text"}
    assert table.attributes["ward"].tolist() == ["A", "B"] * 4 + ["A"]
    assert table.label_names == ("Edema",)


def test_the_same_row_twice_is_one_and_a_contradiction_is_named(tmp_path: Path) -> None:
    head = "path,patient,Edema,ward\na.png,1,1,A\nb.png,2,0,A\n"
    table = read(tmp_path / "t.csv", head + "a.png,1,1,A\n")
    assert len(table.images) == 2 and any("1 rows are the same as another one" in line for line in table.understood)
    with pytest.raises(UserError, match=r"contradict each other in 'ward'(.|\n)*line 2;(.|\n)*line 4"):
        read(tmp_path / "t.csv", head + "a.png,1,1,B\n")


def test_free_text_is_no_label_and_nearly_labels_are_named(tmp_path: Path) -> None:
    csv = "path,uid,findings,Problems,Rating\n" + "".join(
        f"{i}.png,{i},The heart is normal; lungs are clear.,{'Cardiomegaly;Edema' if i % 2 else 'normal'},{i % 2}\n"
        for i in range(8)
    )
    table = read(tmp_path / "t.csv", csv)
    assert table.label_names == ("normal", "Cardiomegaly", "Edema")
    assert table.images["patient"].tolist() == [str(i) for i in range(8)]
    csv = "path,Sign,Almost,Chance\na.png,Yes,1,0.2\nb.png,No,0,0.9\nc.png,No,x,0.5\n"
    told = "\n".join(read(tmp_path / "t.csv", csv).understood)
    assert "'Almost' is not taken as a label: 1 of its values cannot be read: 'x'" in told
    assert "'Chance' holds numbers from 0 to 1" in told and "--threshold" in told
    rows = "".join(f"p{i}.png,{i % 2},{i % 3}\n" for i in range(20))
    table = read(tmp_path / "few.csv", f"path,Sign,grade\n{rows}q.png,maybe,1\n")
    assert table.label_names == ("Sign",) and table.labels["value"].isna().sum() == 1
    assert any("column 'Sign': 1 cells, such as 'maybe' (1), cannot be read" in line for line in table.understood)
    table = read(tmp_path / "t.csv", csv, label_columns="Chance", threshold=0.5)
    assert table.labels["value"].tolist() == [0, 1, 1]


def test_yes_and_no_beside_known_labels_are_no_findings(tmp_path: Path) -> None:
    csv = "path,Edema,Fracture,Pneumonia,Nodule,interpreter,married\na.png,1,0,,1,Yes,No\nb.png,0,1,1,0,No,Yes\n"
    table = read(tmp_path / "t.csv", csv)
    assert table.label_names == ("Edema", "Fracture", "Pneumonia", "Nodule")
    assert set(table.types) == {"interpreter", "married"}


def test_cells_taken_as_unknown_are_counted(tmp_path: Path) -> None:
    csv = "path,sex,age,split,Edema\na.png,F,50,train,1\nb.png,X,85 or more,other,0\nc.png,X,7O,test,0\n"
    told = "\n".join(read(tmp_path / "t.csv", csv).understood)
    assert "column 'sex': 2 cells taken as unknown sex: 'X' (2)" in told
    assert "column 'age': 2 cells taken as unknown age: '85 or more' (1), '7O' (1)" in told
    assert "1 rows with a split that is not train, valid or test ('other')" in told


def test_siims_run_lengths_in_any_table(tmp_path: Path) -> None:
    csv = "ImageId, EncodedPixels\n1.2.3, 10 2 3 4\n1.2.3, 1 1\n1.2.4, -1\n"
    table = read(tmp_path / "t.csv", csv)
    assert table.label_names == ("Pneumothorax",) and table.labels["value"].tolist() == [1, 0]
    assert table.runs["image"].tolist() == [0, 0]
    with pytest.raises(UserError, match="1 masks of column 'EncodedPixels' are no run lengths"):
        read(tmp_path / "t.csv", csv + "1.2.5, 10 x\n")
