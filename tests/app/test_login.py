"""Who may read a shared server; the default asks nobody; the shipped proxies refuse frames of other sites."""

import shutil
import subprocess
from pathlib import Path

import pytest

from medsae.store.artifacts import Store
from medsae.store.notes import Note, Notes
from medsae.ui import login

SERVE = Path(__file__).parents[2] / "docs/how-to/serve"


@pytest.mark.parametrize(("email", "verified", "readers", "may"), [
    ("a@x.org", True, (), True), ("", None, (), True),
    ("a@x.org", True, ("a@x.org",), True), ("A@X.org", None, ("a@x.org",), True), ("b@x.org", True, ("@x.org",), True),
    ("b@x.org", True, ("a@x.org",), False), ("b@y.org", True, ("@x.org",), False),
    ("b@evil-x.org", True, ("@x.org",), False), ("b@x.org.evil.com", True, ("@x.org",), False),
    ("b@x.org", False, ("@x.org",), False), ("", True, ("@x.org",), False), ("@x.org", True, ("x.org",), False),
])  # fmt: skip
def test_the_list_of_readers(email, verified, readers, may):
    assert login.allowed(email, verified, readers) is may


def test_without_a_login_nobody_is_asked(app, html, data, ids):
    test = app.open("overview")
    assert not [b for b in test.button if b.label in ("Sign in", "Sign out")]
    assert "Research use only" in html(test)


def test_where_a_login_is_set_up_a_stranger_sees_no_study(app, html, data, ids, monkeypatch):
    monkeypatch.setattr(login.st, "user", {"is_logged_in": False})
    test = app.open("neurons")
    assert [b.label for b in test.button] == ["Sign in"]
    assert not test.selectbox and ids.scores not in html(test)


def test_a_note_keeps_who_wrote_it_and_old_notes_are_read(tmp_path):
    notes = Notes(Store(tmp_path), "sae-1")
    notes.put(Note(3, star=True, by="Ada"))
    assert notes.of(3).by == "Ada" and notes.table()["by"].tolist() == ["Ada"]
    notes.path.write_text(
        '{"neuron": 4, "star": true, "tags": [], "verdict": "", "text": "", "name": "", "time": 1.0}\n'
    )
    assert notes.of(4).star and notes.of(4).by == ""


@pytest.mark.parametrize("file", ["Caddyfile", "nginx.conf"])
def test_the_shipped_proxies_refuse_frames(file):
    text = (SERVE / file).read_text()
    assert "frame-ancestors 'none'" in text and "127.0.0.1:8501" in text and "X-Frame-Options" in text


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_the_shipped_file(tmp_path):
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=medsae", "-keyout",
             str(tmp_path / "privkey.pem"), "-out", str(tmp_path / "fullchain.pem")]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    server = (SERVE / "nginx.conf").read_text().replace("/etc/ssl/medsae", str(tmp_path))
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off;\n{server}\n}}"
    )
    done = subprocess.run(["nginx", "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
