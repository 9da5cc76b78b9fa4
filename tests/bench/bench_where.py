"""Times of maps, own pictures, words and What if on a study that has them (the demo); one JSON line a figure.

    python tests/bench/synthetic.py LARGE --images 224000 --neurons 8192 --d 512 --maps    # overlays at full size
    python tests/bench/bench_where.py DATA [--scores ID] [--visits 60] [--only pages look maps]

pages: script time of one run of a page in this process (AppTest), warm, another neuron, image, word or switch each time;
wall and processor (the processor's is what a busy machine leaves comparable). A switch of What if runs its panel alone, as a
browser has it run. look: `medsae look FILE` as a process of its
own (cold), and questions to a service that holds the models (warm), from the app's side. maps: exact maps against embedding once.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from medsae.config import Look  # noqa: E402
from medsae.progress import Silent  # noqa: E402
from medsae.store.artifacts import Artifact, Store  # noqa: E402
from medsae.store.looks import Looks  # noqa: E402
from tests.bench.bench_app import say  # noqa: E402

WORDS = ("fluid", "left", "pacemaker", "heart", "tube", "fracture", "air", "nodule", "opacity", "line", "edema", "base")
PARTS = ("pages", "look", "maps")
Ask = Callable[[np.random.Generator], dict[str, str]]


def chosen(store: Store, name: str | None) -> Artifact:
    """The scores of that id, else the newest of an SAE with maps (not of tokens)."""
    if name:
        return store.parent(name, "scores")
    fits = [a for a in store.list("scores") if a.facts.get("maps") == "exact" and not a.facts.get("tokens")]
    fits = [a for a in fits if a.facts.get("representation") == "sae"]
    return max(fits, key=lambda a: a.manifest["created"])


def asks(scores: Artifact) -> dict[str, tuple[str, Ask]]:
    """What is measured -> page, and what an address asks of it."""
    with scores.connect() as connection:
        neurons = [r[0] for r in connection.execute("SELECT DISTINCT neuron FROM cell ORDER BY 1").fetchall()]
        pairs = connection.execute("SELECT image, list(neuron) FROM activation GROUP BY 1 ORDER BY 1").fetchall()

    def neuron(rng: np.random.Generator) -> dict[str, str]:
        return {"neuron": str(rng.choice(neurons))}

    def image(rng: np.random.Generator) -> dict[str, str]:
        return {"image": str(pairs[rng.integers(len(pairs))][0])}

    def switched(rng: np.random.Generator) -> dict[str, str]:
        at, fires = pairs[rng.integers(len(pairs))]
        return {"image": str(at), "off": str(fires[0]), "strength": str(rng.choice(["0", "0.5", "2"]))}

    shown = {
        "neuron without maps": ("neuron", neuron),
        "neuron with maps": ("neuron", lambda rng: neuron(rng) | {"map": "1"}),
        "image with maps": ("image", lambda rng: image(rng) | {"map": "1"}),
    }
    effects = {
        "text search": ("neurons", lambda rng: {"meaning": str(rng.choice(WORDS)), "page": str(rng.integers(1, 9))}),
        "image with switched neurons": ("image", switched),
        "a set removed": ("whatif", lambda rng: {"set": "list", "q": ",".join(map(str, rng.choice(neurons, 4)))}),
    }
    return shown | (effects if scores.facts.get("effects") == "computed" else {})


def pages(scores: Artifact, visits: int) -> None:
    """Script times."""
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.testing.v1 import AppTest

    made = PagesManager.__init__

    def warm(self: PagesManager, *a: object, **k: object) -> None:
        made(self, *a, **k)  # type: ignore[arg-type]
        PagesManager.uses_pages_directory = False

    PagesManager.__init__ = warm  # type: ignore[method-assign]
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    app.run()
    for what, (page, ask) in asks(scores).items():
        rng, walls, cpus = np.random.default_rng(0), [], []
        app.switch_page(f"pages/{page}.py")
        for visit in range(visits + 3):
            for name in list(app.query_params):
                del app.query_params[name]
            for name, value in ({"scores": scores.id} | ask(rng)).items():
                app.query_params[name] = value
            wall, cpu = time.perf_counter(), time.process_time()
            app.run()
            assert not app.exception, (page, app.exception)
            if visit >= 3:
                walls.append(1000 * (time.perf_counter() - wall))
                cpus.append(1000 * (time.process_time() - cpu))
        say(what=what, p50_ms=round(np.median(walls)), p95_ms=round(np.quantile(walls, 0.95)),
            cpu_p50_ms=round(np.median(cpus)), cpu_p95_ms=round(np.quantile(cpus, 0.95)), visits=visits)  # fmt: skip
    if scores.facts.get("effects") == "computed":
        switches(app, scores, visits)


def switches(app: Any, scores: Artifact, visits: int) -> None:
    """Script times of a switch of What if: the fragment that the browser asks for, on one image after the other."""
    from streamlit.testing.v1 import local_script_runner

    whole = local_script_runner.RerunData
    with scores.connect() as connection:
        pairs = connection.execute("SELECT image, list(neuron) FROM activation GROUP BY 1 ORDER BY 1").fetchall()
    rng, walls, cpus, shown = np.random.default_rng(0), [], [], 0
    app.switch_page("pages/image.py")
    for visit in range(visits + 3):
        at, fires = pairs[rng.integers(len(pairs))]
        for name in list(app.query_params):
            del app.query_params[name]
        app.query_params["scores"], app.query_params["image"] = scores.id, str(at)
        app.run()
        (panel,) = app._fragment_storage._fragments
        app.query_params["off"], app.query_params["strength"] = str(fires[0]), str(rng.choice(["0.25", "0.5", "2"]))
        local_script_runner.RerunData = lambda panel=panel, **k: whole(**k, fragment_id=panel)  # type: ignore[assignment]
        try:
            wall, cpu = time.perf_counter(), time.process_time()
            app.run()
        finally:
            local_script_runner.RerunData = whole  # type: ignore[misc]
        assert not app.exception, app.exception
        shown += any("with 1 neuron" in str(e.proto) for e in app.main)
        if visit >= 3:
            walls.append(1000 * (time.perf_counter() - wall))
            cpus.append(1000 * (time.process_time() - cpu))
    assert shown, "a switch is seen where its neuron is among the bars"
    say(what="what-if switch on an image", p50_ms=round(np.median(walls)), p95_ms=round(np.quantile(walls, 0.95)),
        cpu_p50_ms=round(np.median(cpus)), cpu_p95_ms=round(np.quantile(cpus, 0.95)), visits=visits)  # fmt: skip


def look(store: Store, scores: Artifact, visits: int) -> None:
    """Cold and warm answers about pictures of one's own, and maps of pictures of the cohort."""
    from medsae.steps.look import look as service

    cohort = store.parent(scores.parents["cohort"], "cohort")
    with cohort.connect() as connection:
        jpegs = [bytes(r[0]) for r in connection.execute("SELECT jpeg FROM picture LIMIT 20").fetchall()]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "picture.jpg"
        file.write_bytes(jpegs[0])
        words = [sys.executable, "-m", "medsae", "look", str(file), "--scores", scores.id, "--data", str(store.data)]
        cold = []
        for _ in range(3):
            wall = time.perf_counter()
            subprocess.run(words, cwd=ROOT, capture_output=True, check=True)
            cold.append(time.perf_counter() - wall)
    say(what="look, cold (a process of its own)", seconds=[round(s, 2) for s in cold])
    looks = Looks(store.data, scores.id)
    config = Look(scores=scores.id, watch=True, idle_minutes=0.05)
    wall = time.perf_counter()
    thread = threading.Thread(target=service, args=(config, store, Silent()))
    thread.start()
    while looks.state().get("phase") != "ready":
        time.sleep(0.01)
    say(what="the service is ready after", seconds=round(time.perf_counter() - wall, 2))
    own = _answers(looks, lambda k: {"picture": jpegs[k % len(jpegs)]}, visits)
    say(what="look, warm", **own)
    say(what="maps of a cohort's picture, warm",
        **_answers(looks, lambda k: {"image": k, "neurons": list(range(12))}, visits))  # fmt: skip
    thread.join()


def occlusion(store: Store, scores: Artifact) -> None:
    """One picture by occlusion with the encoder of these scores, whether it needs it or not."""
    from medsae.steps import eyes, occlusion, squares

    embeddings = store.parent(scores.parents["embeddings"], "embeddings")
    encoder = eyes.encoder_of(embeddings, store, Silent())
    cohort = store.parent(scores.parents["cohort"], "cohort")
    occluder = occlusion.Occluder(encoder, eyes.unit_norm(encoder, embeddings), squares.mean_of(cohort))
    pictures, walls = eyes.pictures_of(cohort), []
    for k in range(5):
        picture, wall = pictures[k], time.perf_counter()
        occluder.losses(picture)
        walls.append(time.perf_counter() - wall)
    say(
        what="occlusion of a picture (65 passes)",
        median_s=round(float(np.median(walls)), 2),
        worst_s=round(max(walls), 2),
    )


class Some:
    """Some pictures of a cohort."""

    def __init__(self, pictures: Any, images: np.ndarray):
        self.pictures, self.images = pictures, images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, at: int) -> np.ndarray:
        return self.pictures[int(self.images[at])]


def exact_maps(store: Store, scores: Artifact, neurons: int = 8192, images: int = 1500) -> None:
    """Maps of the 25 strongest pictures of so many neurons (random directions) against the time
    of embedding those pictures once, in float32 too; both with decoding, one after the other, twice."""
    from medsae.encoders import pipeline
    from medsae.geometry import packed
    from medsae.steps import eyes, maps
    from medsae.steps.located import Asked

    embeddings = store.parent(scores.parents["embeddings"], "embeddings")
    encoder, cohort = eyes.encoder_of(embeddings, store, Silent()), store.parent(scores.parents["cohort"], "cohort")
    pictures = eyes.pictures_of(cohort)
    eye = eyes.eye_with(encoder, embeddings).with_reference(eyes.sampled(pictures))
    x_nd = np.load(embeddings.file("x.npy"))[:images]
    space = eyes.Direction.at_random(x_nd.shape[1], neurons, 0)
    row = np.argsort(-(x_nd @ space.row_md.T), axis=0)[: maps.TOP].T.ravel()
    asked = Asked(row, np.zeros(len(row), np.intp), np.repeat(np.arange(neurons), maps.TOP))
    some = np.unique(row)
    for _ in range(2):
        wall = time.perf_counter()
        for _, map_kc, _ in maps.compute(eye, pictures, np.arange(images), [space], asked, Silent()):
            packed(map_kc)
        made = time.perf_counter() - wall
        with tempfile.TemporaryDirectory() as folder:
            how, wall = pipeline.How(precision="fp32", device="cpu"), time.perf_counter()
            pipeline.embed(Some(pictures, some), encoder, how, shards=Path(folder))
            once = time.perf_counter() - wall
        say(what=f"exact maps of the top {maps.TOP} of {neurons} neurons", pictures=len(some), maps=len(row),
            seconds=round(made, 2), embedding_once_s=round(once, 2), ratio=round(made / once, 2))  # fmt: skip


def _answers(looks: Looks, question: Callable[[int], dict[str, Any]], visits: int) -> dict[str, Any]:
    walls = []
    for k in range(visits):
        wall = time.perf_counter()
        token = looks.ask(**question(k))
        while looks.fetch(token) is None:
            time.sleep(0.005)
        walls.append(1000 * (time.perf_counter() - wall))
    return {"p50_ms": round(np.median(walls)), "p95_ms": round(np.quantile(walls, 0.95)), "visits": visits}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Times of maps, own pictures, words and What if.")
    parser.add_argument("data", type=Path)
    parser.add_argument("--scores")
    parser.add_argument("--visits", type=int, default=60)
    parser.add_argument("--only", nargs="*", default=list(PARTS), choices=PARTS)
    given = parser.parse_args()
    os.environ["MEDSAE_DATA"] = str(given.data)
    found = Store(given.data)
    say(what="machine", load=os.getloadavg(), scores=(about := chosen(found, given.scores)).id, m=about.facts["m"],
        n=about.facts["n"])  # fmt: skip
    if "pages" in given.only:
        pages(about, given.visits)
    if "maps" in given.only:
        exact_maps(found, about)
    if "look" in given.only:
        look(found, about, given.visits)
        occlusion(found, about)
