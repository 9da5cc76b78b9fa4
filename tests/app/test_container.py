# pyright: reportOptionalSubscript=false, reportOptionalMemberAccess=false
"""Dockerfile and compose file in step with the repository; the image's steps after installation run in a folder.

No container engine is asked for: the COPY lines are carried out, and the CMD started, in an empty folder with this
environment's packages. The network is not taken away.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = [line for line in re.sub(r"\\\n", " ", TEXT).splitlines() if line.strip() and not line.startswith("#")]
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PINNED = re.compile(r"==[\w.]+$")


def arguments(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


def test_the_base_is_one_version_and_a_python_that_the_project_takes():
    (base,) = arguments("FROM")
    minor = re.fullmatch(r"python:3\.(\d+)\.\d+-slim-\w+", base)
    assert minor, f"{base} names no patch version"
    assert int(minor[1]) >= int(re.search(r'requires-python = ">=3\.(\d+)"', (ROOT / "pyproject.toml").read_text())[1])


def test_what_is_copied_is_there_and_not_ignored():
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for rest in arguments("COPY"):
        for source in shlex.split(rest)[:-1]:
            assert (ROOT / source).exists() and source in kept, source
    assert (ROOT / ".dockerignore").read_text().startswith("*\n"), "what is not named stays out of the image"
    assert ".streamlit/secrets.toml" in (ROOT / ".dockerignore").read_text()


def test_what_is_installed_is_what_make_installs_and_pinned():
    run = " && ".join(arguments("RUN"))
    makefile = (ROOT / "Makefile").read_text()
    for line in ("-r requirements.txt", "--no-deps -r requirements-nodeps.txt"):
        assert line in run and line in makefile, line
    pinned = {line for name in ("requirements.txt", "requirements-nodeps.txt", "requirements-test.txt")
              for line in (ROOT / name).read_text().splitlines() if PINNED.search(line)}  # fmt: skip
    installs = [shlex.split(part.strip()) for part in run.split("&&") if "pip install" in part]
    named = [word for words in installs for word in words[2:]
             if not word.startswith(("-", "$")) and not word.endswith(".txt")]  # fmt: skip
    assert named and all(word in pinned for word in named), named
    assert len(installs) == 3
    assert arguments("ARG") == ['TORCH_INDEX=""'] and '${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"}' in run


def test_it_runs_as_nobody_special_and_fetches_nothing_when_it_starts():
    names = [name for name, _ in STEPS]
    (user,) = arguments("USER")
    assert user not in ("root", "0") and f"useradd --system --uid 10001 --create-home {user}" in TEXT
    assert names.index("USER") < names.index("CMD") and names.index("USER") > max(
        i for i, name in enumerate(names) if name in ("RUN", "COPY")
    )
    assert "ADD" not in names and "ENTRYPOINT" not in names
    (start,) = arguments("CMD")
    words = json.loads(start)
    assert words[:4] == ["python", "-m", "medsae", "app"] and "-m medsae app" in (ROOT / "Makefile").read_text()
    assert "HF_HUB_OFFLINE=1" in TEXT and not re.search(r"curl|wget|git clone|apt-get", TEXT)


def test_the_compose_file_puts_the_app_behind_the_shipped_proxy():
    proxy, app, naming = (COMPOSE["services"][name] for name in ("proxy", "app", "naming"))
    assert re.fullmatch(r"caddy:\d+\.\d+\.\d+(-\w+)?", proxy["image"])
    config = next(v for v in proxy["volumes"] if v.endswith("/etc/caddy/Caddyfile:ro")).split(":")[0]
    target = re.search(r"reverse_proxy (\S+)", (ROOT / config).read_text())[1]
    host, port = target.split(":")
    assert app["environment"]["STREAMLIT_SERVER_ADDRESS"] == host and app["network_mode"] == "service:proxy"
    assert f"EXPOSE {port}" in TEXT and f'"--port", "{port}"' in TEXT
    assert "ports" not in app and "ports" not in naming, "nothing but the proxy is reached from outside"
    for service in (app, naming):
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert any(v.endswith(":/pictures:ro") for v in service["volumes"])
    assert app["image"] == naming["image"] and any(v.endswith(":/data") for v in naming["volumes"])
    from medsae.cli import _parse

    words = [re.sub(r"\$\{\w+:-\}", "http://some-id/v1", word) for word in naming["command"]]
    assert words[:3] == ["python", "-m", "medsae"] and _parse(words[3:]).watch


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """An empty folder with what the COPY lines put there."""
    folder = tmp_path_factory.mktemp("image")
    for rest in arguments("COPY"):
        *sources, to = shlex.split(rest)
        for source in sources:
            target = folder / to / (source if to in (".", "./") else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, target)
    return folder


def test_the_copied_files_start_and_answer(image, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said = dict(re.findall(r"(\w+)=(\S+)", arguments("ENV")[0]))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "STREAMLIT"))} | said
    environment |= {"MEDSAE_DATA": str(tmp_path / "data"), "STREAMLIT_SERVER_ADDRESS": "127.0.0.1"}
    words = [sys.executable, *json.loads(arguments("CMD")[0])[1:-1], str(port)]
    listed = subprocess.run([sys.executable, "-m", "medsae", "list"], cwd=image, env=environment, capture_output=True)
    assert listed.returncode == 0, listed.stderr
    check = json.loads(re.search(r"HEALTHCHECK.*?CMD (\[.*?\])\s*$", "\n".join(LINES), re.M)[1])[-1]
    assert "_stcore/health" in check
    server = subprocess.Popen(words, cwd=image, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5) as answer:
                    assert answer.read() == b"ok"
                break
            except OSError:
                assert server.poll() is None, server.stderr.read().decode()
                assert time.monotonic() < end, "the app never answered"
                time.sleep(0.1)
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
