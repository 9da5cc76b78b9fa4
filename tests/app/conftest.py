"""Synthetic artifacts for the app's tests, written once a session, and a driver of the app without a browser."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
import streamlit as st
from streamlit.runtime.pages_manager import PagesManager
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[2]


def synthetic():
    """The module tests/bench/synthetic.py."""
    if "synthetic" not in sys.modules:
        spec = importlib.util.spec_from_file_location("synthetic", ROOT / "tests/bench/synthetic.py")
        sys.modules["synthetic"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["synthetic"]


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """(data folder, ids) of one synthetic study: 160 images, 72 neurons of an SAE, 24 raw. Never written to."""
    data = tmp_path_factory.mktemp("synthetic")
    return data, synthetic().write(data, images=160, neurons=72, d=24)


@pytest.fixture
def ids(written):
    return written[1]


@pytest.fixture
def data(written, tmp_path, monkeypatch):
    """A data folder of this test's own with the synthetic study in it (hard links: nothing is copied)."""
    folder = tmp_path / "data"
    shutil.copytree(written[0], folder, copy_function=lambda a, b: Path(b).hardlink_to(a))
    monkeypatch.setenv("MEDSAE_DATA", str(folder))
    return folder


@pytest.fixture(autouse=True)
def fresh_caches():
    """Streamlit's caches are the server's; a test is a server of its own."""
    st.cache_resource.clear()
    st.cache_data.clear()


@pytest.fixture(autouse=True)
def warm_server(monkeypatch):
    """As in a server where app.py has run once: AppTest otherwise starts every run as the first of a fresh server, and
    the first run is repeated (see `study.current`), which would lose the click on a button."""
    made = PagesManager.__init__

    def warm(self, *arguments, **named):
        made(self, *arguments, **named)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", warm)


class App:
    """The app in one session; `open` gives the finished page and fails on an exception that is not expected."""

    def __init__(self):
        self.test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=30)

    def open(self, page: str = "overview", /, **query: object) -> AppTest:
        for name in list(self.test.query_params):
            del self.test.query_params[name]
        for name, value in query.items():
            self.test.query_params[name] = str(value)
        self.test.switch_page(f"pages/{page}.py")
        return self.run()

    def run(self) -> AppTest:
        self.test.run()
        assert not self.test.exception, self.test.exception
        return self.test


def html(test: AppTest) -> str:
    """All of the page's HTML blocks."""
    return "\n".join(element.proto.body for element in test.get("html"))


@pytest.fixture
def app():
    return App()


@pytest.fixture(name="synthetic")
def synthetic_of():
    return synthetic()


@pytest.fixture(name="html")
def html_of():
    return html
