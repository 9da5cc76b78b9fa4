"""Many readers at once while artifacts come, go and are damaged under them."""

from __future__ import annotations

import random
import shutil
import threading
import time

from study import Row, Study, temporary


def readers(study: Study, n: int = 25, seconds: float = 20.0) -> list[Row]:
    """`n` threads that ask the queries of the pages of one server (one Reader), while scores are removed, copied back
    and damaged; an answer is a frame or a UserError."""
    from medsae.progress import UserError
    from medsae.store import queries, query_images
    from medsae.store.artifacts import Store
    from medsae.store.reader import Reader

    row, began, stop = Row(f"{n} readers while artifacts come and go"), time.monotonic(), threading.Event()
    with temporary("readers") as folder:
        data = study.copy(folder / "data")
        store, reader, lock = Store(data), Reader(), threading.Lock()
        path, spare = study.folder("score", data), folder / "spare"
        shutil.copytree(path, spare)

        def look(number: int) -> None:
            chance = random.Random(number)
            while not stop.is_set():
                try:
                    found, _ = store.scan()
                    of = {a.kind: a for a in found}
                    if "scores" in of:
                        scores, cohort = of["scores"], of["cohort"]
                        queries.count(reader, scores, queries.Filter())
                        queries.neurons(reader, scores, queries.Filter(), 20, 0)
                        query_images.top_images(reader, scores, [chance.randrange(20) for _ in range(9)])
                        query_images.thumbnails(reader, cohort, [chance.randrange(50) for _ in range(8)])
                        with lock:
                            row.hits += 1
                except UserError:
                    pass
                except Exception as error:
                    with lock:
                        row.bad(f"{type(error).__name__}: {str(error)[:200]}")
                with lock:
                    row.tries += 1

        threads = [threading.Thread(target=look, args=(i,), daemon=True) for i in range(n)]
        for thread in threads:
            thread.start()
        chance, end = random.Random(0), time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.1)
            shutil.rmtree(path, ignore_errors=True)
            time.sleep(0.05)
            building = path.with_name(".building-" + path.name)
            shutil.copytree(spare, building)
            if chance.random() < 0.5:
                tables = building / "tables.duckdb"
                whole = bytearray(tables.read_bytes())
                for _ in range(20):
                    whole[chance.randrange(len(whole))] ^= 255
                tables.write_bytes(whole)
            building.rename(path)
        stop.set()
        for thread in threads:
            thread.join(60)
        reader.close()
    row.seconds = time.monotonic() - began
    return [row]
