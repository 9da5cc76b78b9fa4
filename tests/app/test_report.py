"""`medsae report`: what a paper needs, from one command; no patient in it; text of a model stays text."""

import io
import re
import zipfile

import pandas as pd
import pytest
from PIL import Image

from medsae import cli
from medsae.paper import report
from medsae.progress import UserError
from medsae.store.artifacts import Store


@pytest.fixture
def light(monkeypatch):
    """Drawing is tested on its own (test_paper_printed): here one byte stands for a figure."""
    monkeypatch.setattr(report.printed, "draw", lambda figure, width, kind, note: f"{kind} {width} {note}".encode())


def test_one_command_makes_all_of_it(data, ids, tmp_path, capsys, light, synthetic):
    synthetic.write_names(data, ids.scores)
    assert cli.main(["report", ids.scores, "--to", str(tmp_path / "out"), "--neurons", "3", "5"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    names = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    for name in ("figures/entropy.pdf", "figures/entropy-89mm.pdf", "figures/heat-map.svg", "figures/heat-map-versus.png",
                 "figures/best-neurons.png", "figures/planted-factors.svg", "tables/table-1.tex", "tables/table-1.md",
                 "tables/measures.tex", "tables/best-neurons.md", "neurons/neuron-3.png", "methods.md", "report.html"):  # fmt: skip
        assert name in names, name
    with Image.open(tmp_path / "out/neurons/neuron-5.png") as sheet:
        assert sheet.info["dpi"][0] == pytest.approx(300, abs=0.1) and sheet.width > 900
    page = (tmp_path / "out/report.html").read_text()
    assert "Neuron 3" in page and "Neuron 5" in page and 'src="data:image/webp' in page and "not for diagnosis" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page), "it needs nothing else"
    everything = page + "".join(p.read_text() for p in (tmp_path / "out").rglob("*.md"))
    assert "patient0" not in everything and str(data) not in everything
    methods = (tmp_path / "out/methods.md").read_text()
    assert ids.scores in methods and ids.raw in methods and "patients are divided, not images" in methods
    with pytest.raises(UserError, match="not empty"):
        report.write(report.open_study(Store(), ids.scores), tmp_path / "out")


def test_the_app_gives_the_same_as_an_archive(data, ids, light, app):
    study = report.open_study(Store(), ids.scores)
    assert study.versus and study.versus.id == ids.raw and 1 <= len(study.neurons) <= 12
    archive = zipfile.ZipFile(io.BytesIO(report.zipped(study)))
    assert "report.html" in archive.namelist() and archive.testzip() is None
    assert any(b.label == "Report for a paper" for b in app.open("overview").get("download_button"))


def test_what_is_not_there_is_said(data, ids):
    with pytest.raises(UserError, match="no neuron 999"):
        report.open_study(Store(), ids.scores, [3, 999])
    with pytest.raises(UserError):
        report.open_study(Store(), ids.cohort)


def test_text_of_a_model_stays_text_in_every_format():
    frame = pd.DataFrame({"concept": ["50 % of <b>fluid</b> | a_b \\input{x} [l](u)"], "ρ": ["−0.50"]})
    tex = report.latex(frame, "A & B", "t")
    assert r"50 \% of $<$b$>$fluid" in tex and r"a\_b \textbackslash{}input\{x\}" in tex and r"A \& B" in tex
    assert r"$\rho$" in tex and "$-$0.50" in tex
    (line,) = report.markdown(frame).splitlines()[2:]
    assert line.count("|") - line.count("\\|") == 3 and "<b>" not in line and "\\[l]" in line
    assert "<b>" not in report._html(frame)
