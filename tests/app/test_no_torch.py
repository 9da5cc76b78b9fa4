"""The web process holds no model: every page is drawn in a fresh process where torch and transformers are forbidden."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_every_page_is_drawn_without_torch(without_torch, data, ids):
    pages = sorted(path.stem for path in ROOT.glob("pages/*.py"))
    code = """
        import json, logging
        logging.disable(logging.WARNING)
        from streamlit.testing.v1 import AppTest
        drawn = {}
        for page in json.loads(sys.argv[1]):
            test = AppTest.from_file("app.py", default_timeout=60)
            for name, value in json.loads(sys.argv[2]).items():
                test.query_params[name] = value
            test.switch_page(f"pages/{page}.py").run()
            drawn[page] = [error.value for error in test.exception] or len(test.get("html"))
        print(json.dumps(drawn))
    """
    query = {"scores": ids.scores, "versus": ids.raw, "neuron": "3", "image": "5"}
    drawn = json.loads(without_torch(code, json.dumps(pages), json.dumps(query)).splitlines()[-1])
    assert all(isinstance(said, int) and said > 2 for said in drawn.values()), drawn
