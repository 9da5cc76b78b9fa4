"""The package: a wheel is built, installed into a scratch folder and used from a folder that has nothing of the project."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medsae.cli import main

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(*names):
    lines = [line for name in names for line in (ROOT / name).read_text().splitlines()]
    found = [Requirement(line.partition("#")[0]) for line in lines if line.partition("#")[0].strip()]
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in found}


def ranges_of(lines):
    return {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in lines}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the installed wheel and nothing else of the project; its dependencies are those of this machine."""
    folder = tmp_path_factory.mktemp("wheel")
    offline = ["--no-deps", "--no-index"]
    for words in (
        ["wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)],
        ["install", *offline, "--target", str(folder / "site"), "--find-links", str(folder), "medsae"],
    ):
        done = subprocess.run(PIP + words, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture
def command(installed, tmp_path):
    """Runs the installed `medsae` in a folder of its own; returns the finished process."""
    environment = {k: v for k, v in os.environ.items() if k != "MEDSAE_DATA"} | {"PYTHONPATH": str(installed)}

    def run(*words, start=False):
        line = [str(installed / "bin/medsae"), *map(str, words)]
        if start:
            return subprocess.Popen(line, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.long
def test_a_study_opens_from_the_installed_package(command, installed, data, ids):
    before, after = command("--data", data, "list"), command("list", "--data", data)
    assert before.returncode == 0 and before.stdout == after.stdout and ids.scores in before.stdout
    shown = json.loads(command("show", ids.scores, "--json", f"--data={data}").stdout)
    assert shown["id"] == ids.scores
    code = (
        "import sys, medsae, medsae.launch\nfrom pathlib import Path\n"
        "from streamlit.testing.v1 import AppTest\n"
        "test = AppTest.from_file(str(medsae.launch.script().with_name('app.py')), default_timeout=60)\n"
        "test.query_params['scores'] = sys.argv[1]\n"
        "test.switch_page('pages/neurons.py').run()\n"
        "assert not test.exception, test.exception\n"
        "print(medsae.__file__, sys.argv[1] in ''.join(e.proto.body for e in test.get('html')))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(installed), "MEDSAE_DATA": str(data)}
    words = [sys.executable, "-W", "ignore", "-c", code, ids.scores]
    done = subprocess.run(words, cwd=installed, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == [f"{installed}/medsae/__init__.py True"], done.stderr


def test_the_command_opens_the_app_with_its_settings(command, data):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = command("app", "--port", port, "--data", data, start=True)
    try:
        assert server.stdout.readline().startswith(f"MedSAE Explorer: http://127.0.0.1:{port}")
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < end
                time.sleep(0.1)
        listening = Path("/proc/net/tcp").read_text() if Path("/proc/net/tcp").is_file() else ""
        if listening:  # .streamlit/config.toml is read: without it Streamlit listens on every interface
            assert re.search(rf"0100007F:{port:04X} 00000000:0000 0A", listening)
            assert not re.search(rf"00000000:{port:04X} 00000000:0000 0A", listening)
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


def test_data_stands_anywhere_once(capsys, data, ids, tmp_path):
    assert main(["--data", str(data), "list", "--kind", "scores"]) == 0
    assert ids.scores in capsys.readouterr().out
    assert main([f"--data={tmp_path}", "list"]) == 0 and capsys.readouterr().out == ""
    assert main(["--version"]) == 0 and capsys.readouterr().out.startswith("medsae ")
    assert main(["--data", str(data)]) == 2 and "there is no command" in capsys.readouterr().err


def test_what_pip_may_choose_allows_what_make_installs():
    ranges, exact = ranges_of(project()["dependencies"]), pins("requirements.txt")
    assert set(ranges) <= set(exact)
    theirs = {canonicalize_name(Requirement(line).name) for name in ranges for line in metadata.requires(name) or []}
    assert set(exact) - set(ranges) <= theirs, "pinned, but neither asked for nor needed by what is asked for"
    wrong = [f"{name} {exact[name]} is outside {ranges[name]}" for name in ranges if exact[name] not in ranges[name]]
    assert not wrong


def test_the_test_extra_names_what_make_test_installs():
    extra, exact = ranges_of(project()["optional-dependencies"]["test"]), pins("requirements-test.txt")
    assert set(extra) == set(exact)
    assert all(exact[name] in extra[name] for name in exact)
