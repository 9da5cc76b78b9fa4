"""Signing in with a provider of the team: a small OIDC provider on this machine, the app behind it."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.browser.conftest import ROOT, free_port

pytest.importorskip("authlib", reason="Streamlit's login needs Authlib")
pytest.importorskip("httpx")


class Provider(ThreadingHTTPServer):
    """Authorization code with PKCE; who signs in is `person`."""

    def __init__(self):
        from joserfc.jwk import RSAKey

        super().__init__(("127.0.0.1", 0), Answers)
        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
        self.person = {"sub": "1", "name": "Ada Reader", "email": "ada@example.org", "email_verified": True}
        self.codes: dict[str, dict[str, str]] = {}
        self.problems: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answers(BaseHTTPRequestHandler):
    server: Provider

    def log_message(self, *_):
        pass

    def _json(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        at = self.server.address
        if url.path == "/.well-known/openid-configuration":
            self._json({
                "issuer": at, "authorization_endpoint": f"{at}/authorize", "token_endpoint": f"{at}/token",
                "jwks_uri": f"{at}/keys", "response_types_supported": ["code"], "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
                "end_session_endpoint": f"{at}/logout",
            })  # fmt: skip
        elif url.path == "/keys":
            self._json({"keys": [self.server.key.as_dict(private=False)]})
        elif url.path == "/authorize":
            code = hashlib.sha256(os.urandom(9)).hexdigest()
            self.server.codes[code] = query
            back = urllib.parse.urlencode({"code": code, "state": query["state"]})
            self.send_response(302)
            self.send_header("Location", f"{query['redirect_uri']}?{back}")
            self.end_headers()
        elif url.path == "/logout":
            self.send_response(302)
            self.send_header("Location", query.get("post_logout_redirect_uri", "/"))
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self):
        from joserfc import jwt

        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        asked = self.server.codes.pop(form["code"])
        proof = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).rstrip(b"=").decode()
        if proof != asked["code_challenge"]:
            self.server.problems.append("PKCE does not fit")
        now = int(time.time())
        claims = {"iss": self.server.address, "aud": asked["client_id"], "iat": now, "exp": now + 300,
                  "nonce": asked.get("nonce", ""), **self.server.person}  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.server.key)
        self._json({"access_token": "x", "token_type": "Bearer", "expires_in": 300, "id_token": token})


@pytest.fixture(scope="module")
def shared(tmp_path_factory, synthetic):
    """(address, provider, data folder, ids) of a server with a login."""
    folder, provider, port = tmp_path_factory.mktemp("login"), Provider(), free_port()
    ids = synthetic.write(folder / "data", images=160, neurons=72, d=24)
    synthetic.write_names(folder / "data", ids.scores)
    address = f"http://127.0.0.1:{port}"
    (folder / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "{address}/oauth2callback"\ncookie_secret = "{"s" * 48}"\nclient_id = "medsae"\n'
        f'client_secret = "quiet"\nserver_metadata_url = "{provider.address}/.well-known/openid-configuration"\n'
        '[medsae]\nreaders = ["@example.org"]\n'
    )
    log = folder / "log.txt"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "web.py", "--server.port", str(port), "--server.headless=true",
             "--secrets.files", str(folder / "secrets.toml")],
            cwd=ROOT, env=os.environ | {"MEDSAE_DATA": str(folder / "data")}, stdout=out, stderr=out,
        )  # fmt: skip
    for _ in range(600):
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=1)
            break
        except OSError:
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
    yield address, provider, folder / "data", ids
    server.terminate()
    server.wait(20)
    provider.shutdown()
    provider.server_close()
    assert "Traceback" not in log.read_text(), log.read_text()
    assert not provider.problems


@pytest.mark.long
def test_nothing_is_shown_before_signing_in_and_notes_carry_the_name(chromium, shared):
    address, _, data, ids = shared
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{address}/neuron?neuron=5")
    page.get_by_role("button", name="Sign in").wait_for()
    shown = page.content()
    assert ids.scores not in shown and "Representation" not in shown and "synthetic" not in shown
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Signed in as Ada Reader").wait_for()
    page.goto(f"{address}/neuron?neuron=5")
    page.get_by_role("button", name="star").first.click()
    page.get_by_role("button", name="starred").wait_for()
    [line] = (data / "notes" / f"{ids.sae}.jsonl").read_text().splitlines()
    assert json.loads(line)["by"] == "Ada Reader" and json.loads(line)["star"] is True
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    context.close()


def test_who_is_not_on_the_list_sees_no_study(chromium, shared):
    address, provider, _, ids = shared
    provider.person = {"sub": "2", "name": "Eve", "email": "eve@elsewhere.org", "email_verified": True}
    context = chromium.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("Not on the list of readers").wait_for()
    assert ids.scores not in page.content() and "Representation" not in page.content()
    context.close()
