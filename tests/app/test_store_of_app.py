"""What the app reads and keeps: notes survive torn lines, queries agree with plain Python, pictures keep patients out."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st_
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy import sparse

from medsae.cohorts.pictures import decode
from medsae.files import sha256_of
from medsae.progress import UserError
from medsae.store import matching, pictures, queries, query_images
from medsae.store.artifacts import Store
from medsae.store.filter import FIRING_LEAST, SURE
from medsae.store.manifest import sealed
from medsae.store.notes import Note, Notes
from medsae.store.reader import WHOLE_KEPT, Reader, _bytes_of_frame, _bytes_of_rows
from medsae.ui import bars, cards, export, format, forms, full_picture


@pytest.fixture
def study(data, ids):
    store = Store()
    return Reader(), store.get(ids.scores), store.get(ids.raw), store.get(ids.cohort)


def table(artifact, name):
    with artifact.connect() as connection:
        return connection.execute(f"FROM {name}").df()


def test_a_torn_line_costs_that_line_and_nothing_after_it(tmp_path):
    notes = Notes(Store(tmp_path), "sae-1")
    notes.put(Note(1, star=True, text="first"))
    with notes.path.open("ab") as file:
        file.write(b'{"neuron": 2, "star": tr')
    notes.put(Note(3, tags=("a", "b")))
    notes.put(Note(1, star=False, text="second"))
    found = notes.all()
    assert set(found) == {1, 3}
    assert (found[1].text, found[1].star, found[3].tags) == ("second", False, ("a", "b"))
    assert len(notes.path.read_text().splitlines()) == 4, "nothing is rewritten"
    assert list(notes.table()["neuron"]) == [1, 3]


def test_notes_in_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "notes").write_text("")
    with pytest.raises(UserError, match="not saved"):
        Notes(Store(tmp_path), "sae-1").put(Note(1))


@pytest.mark.long
def test_difference_is_of_paired_draws_and_centred_on_the_value(study):
    reader, sae, raw, _ = study
    found = queries.difference(reader, sae, raw)
    a, b = (
        table(s, "draw").query("kind == 'bootstrap'").sort_values("draw")["mean_entropy"].to_numpy() for s in (sae, raw)
    )
    values = [queries.summary(reader, s)["mean_entropy"].value for s in (sae, raw)]
    d = a - b
    assert found.value == pytest.approx(values[0] - values[1])
    low, high = np.quantile(d, [0.025, 0.975]) - d.mean() + found.value
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert queries.difference(reader, sae, sae).value == 0


def test_histogram_counts_every_defined_neuron_once(study):
    reader, sae, _, _ = study
    entropy = table(sae, "neuron")["entropy"].dropna()
    frame = queries.entropy_histogram(reader, sae, queries.Filter())
    assert frame["count"].sum() == len(entropy) and frame["share"].sum() == pytest.approx(1)
    assert frame["cumulative"].iloc[-1] == pytest.approx(1)
    low = frame["low"].iloc[0]
    assert frame["count"].iloc[0] == ((entropy >= low - 1e-9) & (entropy < low + queries.BIN_BITS - 1e-9)).sum()


@pytest.mark.parametrize("sort", list(queries.SORTS))
def test_beside_walks_the_order_of_the_filter(study, sort):
    reader, sae, _, _ = study
    chosen = queries.Filter(show="defined", rho=0.1, sort=sort)
    order = list(queries.neurons(reader, sae, chosen, None)["neuron"])
    at, walked = order[0], [order[0]]
    while (at := queries.beside(reader, sae, chosen, at)["next"]) is not None:
        walked.append(at)
    assert walked == order


def test_neurons_of_few_pictures_come_after_the_others_and_are_counted(study):
    reader, sae, _, _ = study
    rows = table(sae, "neuron")[["neuron", "active", "q", "max_abs_rho", "entropy"]]
    alive = rows.dropna(subset="entropy")
    assert (alive["active"] < FIRING_LEAST).any() and (alive["active"] >= FIRING_LEAST).any()
    for sort, best in (("q", "q"), ("-rho", "max_abs_rho"), ("entropy", "entropy")):
        chosen = queries.Filter(show="defined", sort=sort)
        order = queries.neurons(reader, sae, chosen, None)
        few = order["active"] < FIRING_LEAST
        assert not few[: len(alive) - few.sum()].any() and few[len(alive) - few.sum() :].all()
        assert order["active"][few].is_monotonic_decreasing, "the fewest come last"
        lead = order[best][~few].clip(lower=SURE) if sort == "q" else order[best][~few]
        assert lead.is_monotonic_decreasing if sort == "-rho" else lead.is_monotonic_increasing
        sure = order[~few & (order["q"] < SURE)]["max_abs_rho"]
        assert sort != "q" or (len(sure) > 1 and sure.is_monotonic_decreasing), "all alike below q 0.001: the strongest"
        assert queries.few(reader, sae, chosen) == few.sum() == (alive["active"] < FIRING_LEAST).sum()
    assert queries.few(reader, sae, queries.Filter(sort="neuron")) == 0, "by number nobody is put last"
    dead = queries.neurons(reader, sae, queries.Filter(sort="q"), None)["active"]
    assert list(dead[len(alive) :]) == [0] * (len(rows) - len(alive)), "dead ones after all"


def test_a_gallery_that_puts_neurons_last_says_so(app, html, data, ids, study):
    reader, sae, _, _ = study
    few = queries.few(reader, sae, queries.Filter(sort="q"))
    said = f"{few} neurons of these fire on fewer than 10 images and come last"
    for page in ("neurons", "entropy", "correlations"):
        assert any(said in caption.value for caption in app.open(page).caption), page
        assert (
            not any("come last" in caption.value for caption in app.open(page, sort="neuron").caption)
            or page == "correlations"
        )
    (seldom,) = queries.neurons(reader, sae, queries.Filter(sort="q", show="defined"), None)["neuron"].tail(1)
    active = int(queries.neuron(reader, sae, seldom)["active"])
    assert f"fires on {active} image" in html(app.open("neurons", q=seldom))
    assert "too few to say much" in html(app.open("neuron", neuron=seldom))


def test_where_all_neurons_fire_on_few_images_none_is_said_to_come_last(monkeypatch):
    said: list[str] = []
    monkeypatch.setattr(cards.st, "caption", said.append)
    for few, total in ((0, 9), (1, 9), (2, 9), (9, 9), (1, 1)):
        cards.few_last(few, total)
    assert [text.split(":")[0] for text in said] == [
        "1 neuron of these fires on fewer than 10 images and comes last",
        "2 neurons of these fire on fewer than 10 images and come last", "All 9 neurons fire on fewer than 10 images",
        "It fires on fewer than 10 images"]  # fmt: skip


def test_beside_of_a_neuron_outside_the_filter_leads_into_it(study):
    reader, sae, _, _ = study
    dead = int(queries.neurons(reader, sae, queries.Filter(show="dead"), 1)["neuron"][0])
    found = queries.beside(reader, sae, queries.Filter(show="defined"), dead)
    first = int(queries.neurons(reader, sae, queries.Filter(show="defined"), 1)["neuron"][0])
    assert (found["previous"], found["next"], found["position"]) == (None, first, None)


@pytest.mark.parametrize("one", [True, False])
def test_top_images_are_the_largest_activations(study, one):
    reader, sae, _, cohort = study
    neuron = int(table(sae, "neuron").sort_values("density")["neuron"].iloc[-1])
    expected = table(sae, "activation").query("neuron == @neuron").merge(table(cohort, "image"), on="image")
    expected = expected.sort_values(["value", "image"], ascending=[False, True])
    if one:
        expected = expected.drop_duplicates("patient")
    found = query_images.images_of(reader, sae, cohort, neuron, "top", one, 12)
    assert list(found["image"]) == list(expected["image"][:12])


def test_silent_images_do_not_fire_and_slices_are_quantiles(study):
    reader, sae, _, cohort = study
    neuron = int(table(sae, "neuron").sort_values("density")["neuron"].iloc[-1])
    fired = table(sae, "activation").query("neuron == @neuron")
    silent = query_images.images_of(reader, sae, cohort, neuron, "silent")
    assert len(silent) and not set(silent["image"]) & set(fired["image"])
    slices = query_images.images_of(reader, sae, cohort, neuron, "slices", False)
    bounds = slices.groupby("slice")["value"].agg(["min", "max"])
    assert (bounds["min"].to_numpy()[:-1] >= bounds["max"].to_numpy()[1:]).all()


def test_label_histogram_splits_the_histogram(study):
    reader, sae, _, cohort = study
    neuron = int(table(sae, "neuron").sort_values("density")["neuron"].iloc[-1])
    whole = queries.histogram(reader, sae, neuron)
    labels = query_images.label_table(reader, cohort)
    parts = queries.histogram_of_label(reader, sae, neuron, labels.value_nk[:, labels.names.index("Edema")])
    assert abs(parts[["present", "absent", "unknown"]].sum(axis=1) - whole["count"]).sum() <= 2  # float32 edges
    fired = table(sae, "activation").query("neuron == @neuron")
    edema = table(cohort, "label").query("label == 'Edema'").set_index("image")["value"].reindex(fired["image"])
    top = parts.iloc[-1]
    inside = (fired["value"].to_numpy() >= top["low"]) & (fired["value"].to_numpy() <= top["high"])
    assert top["present"] == (edema.to_numpy()[inside] == 1).sum() and inside.sum() >= 1


def test_captions_say_what_the_label_table_says(study):
    reader, _, _, cohort = study
    labels = query_images.label_table(reader, cohort)
    rows = table(cohort, "label").merge(table(cohort, "label_name"), on="label").sort_values(["image", "position"])
    assert labels.names == table(cohort, "label_name").sort_values("position")["label"].tolist()
    images = [3, 17, 40, 99]
    found = query_images.captions(reader, cohort, images, labels).set_index("image")
    assert sorted(found.index) == images and found["uncertain"].str.len().sum() > 0
    for image in images:
        mine = rows[rows["image"] == image]
        assert found.loc[image, "labels"] == " · ".join(mine[mine["value"] == 1]["label"])
        assert found.loc[image, "uncertain"] == " · ".join(mine[mine["value"] == -1]["label"])
    assert (labels.value_nk == query_images.UNSTATED).sum() == rows["value"].isna().sum()


def test_firing_rates_and_wilson(study):
    reader, sae, _, cohort = study
    neuron = int(table(sae, "neuron").sort_values("density")["neuron"].iloc[-1])
    fired = set(table(sae, "activation").query("neuron == @neuron and value > 0")["image"])
    image = table(cohort, "image")
    row = (
        query_images.confounders(reader, sae, neuron, query_images.groups(reader, sae, cohort))
        .query("what == 'sex' and group == 'F'")
        .iloc[0]
    )
    women = image.query("sex == 'F'")["image"]
    k, n = len(set(women) & fired), len(women)
    assert (row["fired"], row["n"]) == (k, n)
    centre, z = (k + 1.92) / (n + 3.84), 1.96
    half = z * np.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    assert (row["low"], row["high"]) == (pytest.approx(centre - half, abs=2e-4), pytest.approx(centre + half, abs=2e-4))


def test_similar_images_are_of_other_patients_and_cosines(study):
    reader, sae, _, cohort = study
    found = query_images.similar(reader, sae, cohort, 10)
    patient = query_images.image(reader, cohort, 10)["patient"]
    assert patient not in set(found["patient"]) and found["patient"].is_unique
    assert found["value"].between(0, 1 + 1e-6).all() and found["value"].is_monotonic_decreasing
    code = table(sae, "activation").pivot_table(index="image", columns="neuron", values="value", fill_value=0.0)
    a, b = code.loc[10], code.loc[found["image"][0]]
    assert found["value"][0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)


def test_matches_of_itself_is_itself(study, ids):
    reader, sae, _, _ = study
    embeddings = Store().get(ids.embeddings)
    found = matching.matches(reader, sae, sae, (embeddings, embeddings))
    assert len(found) > 20 and (found["neuron"] == found["other"]).all() and np.allclose(found["rho"], 1)


def test_matches_of_an_sae_with_raw_are_pearson_correlations(study, ids):
    """An embedding whose column 5 is neuron j upside down: j's match is 5 with rho -1; the others as numpy has them."""
    reader, sae, raw, _ = study
    code = table(sae, "activation").pivot_table(index="image", columns="neuron", values="value", fill_value=0.0)
    code = code.reindex(range(160), fill_value=0.0)
    j = int(code.astype(bool).sum().idxmax())
    x = np.random.default_rng(0).normal(size=(160, 24)).astype(np.float32)
    x[:, 5] = 3 - 2 * code[j]
    embeddings = Store().get(ids.embeddings)
    path = embeddings.path / "x.npy"
    np.save(path, x)
    embeddings.manifest["files"]["x.npy"] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    found = matching.matches(reader, sae, raw, (embeddings, embeddings)).set_index("neuron")
    assert (found.loc[j, "other"], found.loc[j, "rho"]) == (5, pytest.approx(-1, abs=1e-5))
    expected = np.corrcoef(code.to_numpy().T, x.T)[: code.shape[1], code.shape[1] :]
    for at, neuron in enumerate(code.columns):
        if (code[neuron] > 0).sum() < matching.FEWEST:
            assert neuron not in found.index
        else:
            assert abs(found.loc[neuron, "rho"]) == pytest.approx(np.abs(expected[at]).max(), abs=1e-4)
    back = matching.matches(reader, raw, sae, (embeddings, embeddings)).set_index("neuron")
    assert (back.loc[5, "other"], back.loc[5, "n"]) == (j, 160)


def test_best_match_of_constant_columns_is_none():
    a = np.array([[0.0, 1, 1], [0, 2, 1], [0, 4, 1], [0, 3, 1]])
    other, rho = matching.best(a, sparse.csc_array(a))
    assert other.tolist() == [-1, 1, -1] and np.isnan(rho[[0, 2]]).all() and rho[1] == pytest.approx(1)


def test_reader_sees_an_artifact_that_was_made_again(data, ids):
    reader, store = Reader(), Store()
    old = store.get(ids.scores)
    assert queries.count(reader, old, queries.Filter()) == 72
    path = old.path / "artifact.json"
    manifest = json.loads(path.read_text())
    path.unlink()
    path.write_text(sealed(manifest | {"created": manifest["created"] + 1}))
    assert reader.alias(store.get(ids.scores)) != reader.alias(old)


def test_salt_is_made_once_and_hashes_differ_between_folders(tmp_path):
    one, two = pictures.salt(Store(tmp_path / "a")), pictures.salt(Store(tmp_path / "b"))
    assert one == pictures.salt(Store(tmp_path / "a")) and one != two
    assert pictures.hashed("patient1", one) == pictures.hashed("patient1", one)
    assert pictures.hashed("patient1", one) != pictures.hashed("patient1", two)
    assert "patient" not in pictures.hashed("patient1", one)


def test_full_picture_falls_back_and_says_so(study):
    reader, _, _, cohort = study
    assert full_picture.full_size(reader, cohort, 0)[1] == "full size"
    picture, what = full_picture.full_size(reader, cohort, 10**6)
    assert picture is None and "no picture was kept" in what


def another_file(reader, cohort, tmp_path, monkeypatch):
    """A place for the file of image 3, without the hash that the cohort recorded for another one."""
    row = query_images.image(reader, cohort, 3)
    monkeypatch.setitem(cohort.manifest["facts"], "root", str(tmp_path))
    monkeypatch.setattr(full_picture.query_images, "image", lambda *_: {**row, "sha256": None})
    path = tmp_path / row["path"]
    path.parent.mkdir(parents=True)
    return path


def test_a_dicom_is_shown_at_full_size_as_the_model_saw_it(study, tmp_path, monkeypatch):
    """The viewer's grey levels are those of the one decoder: window of the file applied, MONOCHROME1 turned."""
    reader, _, _, cohort = study
    monkeypatch.setattr(full_picture.query_images, "full_picture", lambda *_: None)
    path = another_file(reader, cohort, tmp_path, monkeypatch)
    stored = np.add.outer(np.arange(400), np.arange(300)).astype(np.uint16)
    path.write_bytes(dicom(stored, "MONOCHROME1", centre=350, width=700))
    picture, what = full_picture.full_size(reader, cohort, 3)
    shown = np.asarray(Image.open(io.BytesIO(picture))).astype(int)
    assert what == "full size" and shown.shape == (400, 300)
    assert np.abs(shown - decode(path).astype(int)).max() <= 6, "JPEG of quality 90"
    assert shown[0, 0] > 250 and shown[-1, -1] < 5, "MONOCHROME1: small values are bright"
    path.write_bytes(b"DICM of another kind")
    assert "thumbnail (the full picture: " in full_picture.full_size(reader, cohort, 3)[1]


def test_a_large_picture_is_scaled_to_what_a_page_may_send(study, tmp_path, monkeypatch):
    reader, _, _, cohort = study
    monkeypatch.setattr(full_picture.query_images, "full_picture", lambda *_: None)
    path = another_file(reader, cohort, tmp_path, monkeypatch)
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1200), dtype=np.uint8)
    Image.fromarray(noise).save(path, "PNG")
    picture, what = full_picture.full_size(reader, cohort, 3)
    assert len(picture) <= full_picture.MOST_BYTES and "of 1200 × 1600" in what


def dicom(stored, photometric, centre, width):
    """Bytes of a DICOM file of 12-bit pixels."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("x.dcm", {}, file_meta=meta, preamble=b"\0" * 128)
    file.Rows, file.Columns = stored.shape
    file.PhotometricInterpretation, file.SamplesPerPixel, file.PixelRepresentation = photometric, 1, 0
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.WindowCenter, file.WindowWidth = centre, width
    file.PixelData = stored.astype("<u2").tobytes()
    out = io.BytesIO()
    file.save_as(out)
    return out.getvalue()


@given(st_.floats(allow_nan=True, allow_infinity=False, width=32))
def test_signed_zero_and_nothing(value):
    text = format.signed(value)
    assert text == format.NOTHING if value != value else text[0] in "+−0"
    assert text not in ("−0.00", "+0.00") and format.number(value) != "−0.00"
    assert format.number(-0.004) == "0.00" and format.percent(-0.0001) == "0 %" and format.number(-1.5) == "−1.50"


def test_none_and_all_are_said_only_of_none_and_all():
    said = {0.0: "0 %", 1.0: "100 %", 0.455: "45.5 %", 0.13: "13.0 %", 0.0002: "0.02 %", 0.9997: "> 99.9 %",
            1e-7: "< 0.001 %", None: format.NOTHING}  # fmt: skip
    assert {share: format.percent(share) for share in said} == said
    assert [format.percent(share, 0) for share in (0.0, 0.003, 0.21, 0.996, 1.0, 1.5)] == [
        "0 %", "0.3 %", "21 %", "> 99 %", "100 %", "150 %"]  # fmt: skip


def test_bars_escape_and_say_why_undefined():
    frame = pd.DataFrame({"label": ["<b>", "Edema"], "rho": [0.5, None], "low": [0.4, None], "high": [0.6, None],
                          "n": [10, 10], "reason": [None, "constant <label>"]})  # fmt: skip
    text = bars.correlations(frame, "sae")
    assert "&lt;b&gt;" in text and "<b>" not in text and "constant &lt;label&gt;" in text and "+0.50" in text


def test_exports_name_research_use_and_artifacts():
    frame = pd.DataFrame({"neuron": [1, 2], "entropy": [0.5, None]})
    lines = export.csv(frame, "scores-1").decode().splitlines()
    assert lines[0] == "# Research use only, not for diagnosis · scores-1" and lines[1] == "neuron,entropy"
    import io

    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(export.parquet(frame, "scores-1")))
    assert table.num_rows == 2 and table.schema.metadata[b"artifacts"] == b"scores-1"


def test_forms_know_every_field_and_its_help():
    from dataclasses import fields

    from medsae import config, plugins
    from medsae.ui.run_parts import STEPS

    sources = [offer.options for offer in plugins.sources.all().values() if offer.options is not None]
    assert len(sources) > 10
    for step in [*STEPS.values(), *sources]:
        helps = forms.docs(step)
        assert not [f.name for f in fields(step) if f.name not in helps], step
    assert forms.plain(int | None) == (int, True) and forms.plain(str) == (str, False)
    assert "lambda" in forms.docs(config.Train)["l1"]


def test_a_kept_answer_is_not_changed_by_who_got_it_and_the_oldest_goes(study, monkeypatch):
    reader, sae, raw, _ = study
    sql = "SELECT neuron, entropy FROM {s}.neuron WHERE neuron < ? ORDER BY neuron"
    first = reader.query(sql, [5], s=sae)
    first.loc[0, "entropy"] = -1.0
    first["more"] = 1
    again = reader.query(sql, [5], s=sae)
    assert list(again.columns) == ["neuron", "entropy"] and (again["entropy"].dropna() >= 0).all()
    assert len(reader.query(sql, [4], s=sae)) == 4, "other parameters are another question"
    assert not reader.query(sql, [5], s=raw).equals(again), "and another artifact too"
    monkeypatch.setattr("medsae.store.reader.KEPT_BYTES", 3000)
    for n in range(10, 40):
        assert len(reader.query(sql, [n], s=sae)) == n
    assert reader._kept_bytes == sum(size for _, size in reader._kept.values()) <= 3000


def test_rows_are_the_frame_in_words_and_the_callers_own(study):
    reader, sae, _, cohort = study
    sql = "SELECT * FROM {s}.neuron ORDER BY neuron LIMIT 9"
    frame = reader.query(sql, s=sae)
    rows = reader.rows(sql, s=sae)
    assert list(rows[0]) == list(frame.columns) and len(rows) == 9
    for row, expected in zip(rows, frame.to_dict("records"), strict=True):
        for name, value in row.items():
            assert value is None if pd.isna(expected[name]) else value == pytest.approx(expected[name]), name
    rows[0]["neuron"] = -5
    assert reader.rows(sql, s=sae)[0]["neuron"] == 0
    assert reader.rows("SELECT NULL AS a, 1.5::FLOAT AS b, 'x' AS c FROM {c}.image LIMIT 1", c=cohort) == [
        {"a": None, "b": 1.5, "c": "x"}
    ]


@pytest.mark.parametrize(
    ("sql", "role"),
    [
        ("SELECT image, webp FROM {a}.thumbnail WHERE image < 40", "cohort"),
        ("SELECT * FROM {a}.image WHERE image < 60", "cohort"),
        ("SELECT * FROM {a}.neuron", "sae"),
        ("SELECT neuron, list(label ORDER BY label) AS labels FROM {a}.correlation GROUP BY 1", "sae"),
    ],
)
def test_an_answer_is_counted_as_what_it_takes(study, sql, role):
    reader, sae, _, cohort = study
    artifact = {"sae": sae, "cohort": cohort}[role]
    frame, rows = reader.query(sql, a=artifact), reader.rows(sql, a=artifact)
    taken = int(frame.memory_usage(index=True, deep=True).sum())
    assert 0.5 * taken < _bytes_of_frame(frame) < 3 * taken
    assert 0.5 * taken < _bytes_of_rows(rows) < 12 * taken
    frames = [size for (kind, *_), (_, size) in reader._kept.items() if kind == "frame"]
    assert _bytes_of_frame(frame) + 500 in frames


def test_what_is_computed_once_is_kept_among_the_newest(study):
    reader, sae, raw, _ = study
    calls = []

    def make(word):
        calls.append(word)
        return [word]

    first = reader.once("a", lambda: make("a"), sae)
    assert reader.once("a", lambda: make("again"), sae) is first and calls == ["a"]
    assert reader.once("a", lambda: make("raw"), raw) == ["raw"], "of another artifact it is another"
    for n in range(WHOLE_KEPT):
        reader.once(f"more {n}", lambda: make("more"), sae)
    assert reader.once("a", lambda: make("anew"), sae) == ["anew"] and len(reader._whole) == WHOLE_KEPT


def test_one_row_is_asked_once_of_many_readers(study):
    reader, sae, _, cohort = study
    kept = len(reader._kept)
    queries.beside(reader, sae, queries.Filter(), 3)
    for neuron in (4, 9, 20):
        queries.beside(reader, sae, queries.Filter(), neuron)
    assert len(reader._kept) == kept + 1, "a list of neurons is put in order once for every step through it"
    table = query_images.image_table(reader, cohort)
    assert query_images.image_table(reader, cohort) is table


def test_an_image_that_is_not_there_is_told(study):
    reader, _, _, cohort = study
    known, labels = query_images.image_table(reader, cohort), query_images.label_table(reader, cohort)
    assert known.has(np.array([0, 159, 160, -1, 10**6])).tolist() == [True, True, False, False, False]
    assert list(query_images.captions(reader, cohort, [5, 10**6], labels)["image"]) == [5]
    none = query_images.ImageTable(*[np.zeros(0)] * 4, {"patient": (np.zeros(0, np.int8), [])})
    assert none.has(np.array([0, 3])).tolist() == [False, False]


def test_columns_of_an_image_are_what_the_table_has(study):
    reader, _, _, cohort = study
    rows = table(cohort, "image").set_index("image")
    known = query_images.image_table(reader, cohort)
    image_n = rows.index.to_numpy()
    for column in ("sex", "view", "patient"):
        expected = [None if pd.isna(v) else v for v in rows[column]]
        assert known.text(column, image_n) == expected
    assert np.array_equal(known.age_n[image_n], rows["age"].to_numpy(float), equal_nan=True)
