"""A page is declared in one place, its own file: the menu follows from the files."""

from medsae.ui import pages


def test_a_new_page_is_one_new_file(tmp_path):
    (tmp_path / "second.py").write_text('"""A page."""\nimport not_there\nPAGE = {"title": "Second", "place": 15}\n')
    (tmp_path / "first.py").write_text('PAGE = {"title": "First", "place": 2.5}\n')
    (tmp_path / "_helper.py").write_text("x = 1\n")
    found, problems = pages.found(tmp_path)
    assert [(page.title, page.path) for page in found] == [("First", "first"), ("Second", "second")]
    assert not problems
    (tmp_path / "zero.py").write_text('PAGE = {"title": "Zero", "place": 0}\n')
    assert pages.found(tmp_path)[0][0].title == "Zero", "seen without a restart"


def test_a_page_that_declares_nothing_sound_is_named_and_left_out(tmp_path):
    (tmp_path / "good.py").write_text('PAGE = {"title": "Good", "place": 1}\n')
    for name, text in (
        ("none", "x = 1"),
        ("syntax", "PAGE = {"),
        ("call", "PAGE = print(1)"),
        ("half", 'PAGE = {"title": "x"}'),
    ):
        (tmp_path / f"{name}.py").write_text(text)
    found, problems = pages.found(tmp_path)
    assert [page.title for page in found] == ["Good"]
    assert sorted(problem.what.split()[2] for problem in problems) == ["call.py", "half.py", "none.py", "syntax.py"]
