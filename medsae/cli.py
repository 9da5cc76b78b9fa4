"""The command line: tyro over the dataclasses of `config`. No logic.

stdout carries the result alone (its last line is the id of the artifact, or one JSON document with --json); progress
and messages go to stderr. Exit status: 0, 2 for what the user can mend, 3 when part of what was
asked for failed (name), 130 after Ctrl-C.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from dataclasses import asdict, replace
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Annotated, Any

import tyro

from medsae import __version__, files, jobs, launch, plugins, scale, shards
from medsae import config as c
from medsae.progress import File, Progress, Terminal, UserError
from medsae.store import housekeeping
from medsae.store.artifacts import Store
from medsae.store.troubles import explained

_named = tyro.conf.subcommand


def _offers() -> dict[str, plugins.Source]:
    return dict(sorted(plugins.sources.all().items(), key=lambda item: (item[1].order, item[0])))


def _sources() -> Any:
    """A subcommand for each source of cohorts there is."""
    kinds = [Annotated[offer.options, _named(name, description=offer.help)] for name, offer in _offers().items()]
    return reduce(or_, kinds)  # type: ignore[arg-type]


COMMANDS: dict[str, Any] = {
    "ingest": _sources(),
    "embed": c.Embed,
    "train": c.Train,
    "score": c.Score,
    "name": c.Name,
    "merge": c.Merge,
    "run": Annotated[c.RunDemo, _named("demo")] | Annotated[c.RunPaper, _named("paper")],
    "pairs": c.Pairs,
    "look": c.Look,
    "reading": Annotated[c.ReadingCreate, _named("create")]
    | Annotated[c.ReadingList, _named("list")]
    | Annotated[c.ReadingResults, _named("results")],
    "import": c.ImportSae,
    "export": Annotated[c.ExportSae, _named("sae")] | Annotated[c.ExportScores, _named("scores")],
    "list": c.List,
    "show": c.Show,
    "report": c.Report,
    "plan": c.Plan,
    "rename": c.Rename,
    "copy": c.Copy,
    "rm": c.Remove,
    "gc": c.Collect,
    "app": c.App,
}
_CHOICES: dict[str, tuple[str, plugins.Registry[Any]]] = {
    "embed": ("--encoder", plugins.encoders),
    "name": ("--backend", plugins.backends),
}
"""Commands whose options follow from what is chosen from a registry."""
_ABOUT = {
    "ingest": "a folder of radiographs and labels -> cohort",
    "embed": "cohort + encoder -> embeddings",
    "train": "embeddings -> sparse autoencoder",
    "score": "embeddings, raw or through an SAE -> scores of every neuron",
    "name": "scores + a vision-language model -> names, put to the test",
    "merge": "the parts that --shard i/N of a step has made -> its artifact",
    "run": "all steps of a preset",
    "pairs": "simulated patients with and without one factor -> what moves each neuron",
    "look": "a picture of your own -> the neurons that fire on it, and where",
    "reading": "the detection test of names, done by people",
    "import": "an SAE of another program -> SAE",
    "export": "an SAE for another program, or scores for notebooks",
    "list": "the artifacts there are",
    "show": "one artifact, its hashes checked",
    "report": "figures, tables and pages of scores for a paper",
    "plan": "what a study of so many images will cost, and which step breaks first",
    "rename": "what an artifact is called",
    "copy": "artifacts -> another data folder, or a bucket",
    "rm": "artifacts or jobs -> trash, and back",
    "gc": "empty the trash",
    "app": "look at it all in a browser",
}
USAGE = "\n".join(
    ["usage: python -m medsae COMMAND ...   (COMMAND --help tells its options)", ""]
    + [f"  {name:8}{about}" for name, about in _ABOUT.items()]
    + ["", "Research use only, not for diagnosis."]
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    if arguments is None:
        os.umask(0o077)  # radiographs and labels are written, by libraries too: they are for their owner alone
    in_browser = jobs.ENVIRONMENT in os.environ
    words = _data_last(sys.argv[1:] if arguments is None else arguments)
    if words == ["--version"]:
        print(f"medsae {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    try:
        config = _parse(words)
        store = Store(config.data)
        try:
            status = _run(config, store)
            sys.stdout.flush()
            return status
        except BrokenPipeError:  # the reader of a pipe has seen enough
            _no_more_output()
        except Exception as error:
            better = jobs.unquoted(error, words[0]) if in_browser else None
            better = better or explained(error, store.data, store.data)
            if better is None:
                raise
            _no_more_output()
            raise better from error
    except UserError as error:
        _tell(f"medsae: {error}")
        return 2
    except KeyboardInterrupt:
        _tell("\nmedsae: stopped; what is finished is kept, and the same command goes on from there")
        return 130
    return 0


def _run(config: Any, store: Store) -> int:
    """The exit status of a command that ended in its own way."""
    if isinstance(config, c.List):
        _print_list(store, config)
    elif isinstance(config, c.Show):
        _print_show(store, config)
    elif isinstance(config, c.Report):
        from medsae.paper import report  # plotly and matplotlib: for this command alone

        made = report.write(report.open_study(store, config.id, config.neurons, config.versus), config.to)
        print(_json(made) if config.json else config.to)
    elif isinstance(config, c.Plan):
        made, machine = scale.asked(config)
        print(_json(made.record()) if config.json else scale.table(made, machine))
    elif isinstance(config, (c.Rename, c.Remove, c.Collect)):
        _tidy(store, config)
    elif isinstance(config, c.Copy):
        from medsae.store import copying  # pandas: for this command alone

        gone = copying.copy(store, config.ids, config.to, Terminal())
        print(_json(gone) if config.json else "\n".join(gone))
    elif isinstance(config, (c.ReadingList, c.ReadingResults)):
        from medsae.steps import reading  # pandas: for these commands alone

        print(reading.listed(store, config.json) if isinstance(config, c.ReadingList)
              else reading.told(store, config.id, config.csv, config.json))  # fmt: skip
    elif isinstance(config, c.App):
        launch.app(config, store.data)
    else:
        with jobs.running(store.data, c.command_line(replace(config, json=False, data=None))) as job:
            result = _step(config, store, File(job.folder / "progress.json", Terminal()))
            status = int(result.get("exit", 0))
            job.result = result["id"] if job.part or result.get("published", True) else None
            job.error = result.pop("left", None)
            job.state = "done" if status == 0 else "part failed" if status == 3 else "failed"
        print(_json(result) if config.json else result["id"])
        return status
    return 0


def _tidy(store: Store, config: c.Rename | c.Remove | c.Collect) -> None:
    """Housekeeping: prints one id a line, or what there is to remove."""
    if isinstance(config, c.Rename):
        id = store.get(config.id).id
        changes = {"title": config.title, "about": config.about, "archived": config.archived}
        card = housekeeping.describe(store, id, **{k: v for k, v in changes.items() if v is not None})
        print(_json({"id": id, **asdict(card)}) if config.json else id)
    elif isinstance(config, c.Remove):
        if config.restore:
            gone = [id for id in config.ids if housekeeping.restore(store, id)]
        else:
            gone = housekeeping.remove(store, config.ids, config.with_dependents)
        print(_json(gone) if config.json else "\n".join(gone))
    else:
        rubbish = housekeeping.trash(store) + (housekeeping.unfinished(store) if config.unfinished else [])
        rubbish += housekeeping.in_bucket(store)
        rows = [{"kind": r.kind, "id": r.id, "bytes": r.bytes} for r in rubbish]
        print(_json(rows) if config.json else "\n".join(f"{r.bytes:>15,} B  {r.kind:20} {r.id}" for r in rubbish))
        total = sum(r.bytes for r in rubbish)
        if config.yes:
            housekeeping.discard(rubbish)
            _tell(f"removed: {total:,} bytes")
        else:
            _tell(f"{total:,} bytes; `medsae gc --yes` removes them for good")


def _tell(line: str) -> None:
    with contextlib.suppress(OSError):  # stderr may lie on the full disk that is to be told
        print(line, file=sys.stderr, flush=True)


def _no_more_output() -> None:
    """What stdout still holds cannot be written: without this, Python would say so once more when it ends."""
    with contextlib.suppress(OSError, ValueError):
        try:
            sys.stdout.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _data_last(words: list[str]) -> list[str]:
    """`--data DIR` is of every command and may stand anywhere, before the command too."""
    for place, word in enumerate(words):
        if word == "--data" or word.startswith("--data="):
            end = place + (1 if "=" in word else 2)
            return words[:place] + words[end:] + words[place:end]
    return list(words)


def _parse(words: list[str]) -> Any:
    if words[0].startswith("--data"):
        raise UserError("there is no command", None, f"commands: {', '.join(COMMANDS)}")
    if words[0].startswith("-"):
        raise UserError(f"{words[0]} stands before the command", None, "python -m medsae COMMAND [options]")
    if words[0] not in COMMANDS:
        raise UserError(f"no command {words[0]!r}", None, f"commands: {', '.join(COMMANDS)}")
    if words[0] == "merge" and len(words) > 1 and words[1] not in ("-h", "--help"):
        return _merge(words[1:])
    marks = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes)
    kind, about = COMMANDS[words[0]], None
    if words[0] == "ingest":
        words, kind = _ingest(words)
    if words[0] in _CHOICES:
        flag, registry = _CHOICES[words[0]]
        chosen = _value_of(flag, words)
        if chosen is not None:
            offer = registry.get(chosen)
            kind, about = c.joined(kind, offer.options), f"{offer.label}: {offer.help}"
        else:
            offers = "\n".join(f"  {name:20}{offer.help}" for name, offer in registry.all().items())
            about = f"{kind.__doc__}\n\n{flag} is one of (with it, --help tells its own options too):\n{offers}"
    return tyro.cli(kind, prog=f"python -m medsae {words[0]}", args=words[1:], config=marks, description=about)


def _merge(words: list[str]) -> Any:
    """The config of a step, as the command that puts its parts together; UserError for a step without parts."""
    config = _parse(words)
    if not isinstance(config, c.Sharded):
        raise UserError(
            f"{words[0]} is not done in parts", None, "merge goes with ingest, embed, score, name and train --sweep"
        )
    if config.shard is not None:
        raise UserError("merge takes the words of the step without --shard", None, f"leave --shard {config.shard} out")
    if config.on is not None:
        raise UserError("--on merges by itself", None, "leave `merge` out, or --on")
    return replace(config, shard=shards.MERGE)


def _ingest(words: list[str]) -> tuple[list[str], Any]:
    """The words with the source that a folder is recognised as, where none is named; the config classes of all sources.

    Raises UserError for an unknown source, and for a folder that is no data set known here, or more than one.
    """
    offers = _offers()
    if len(words) > 1 and words[1] not in ("-h", "--help") and not words[1].startswith("-"):
        plugins.sources.get(words[1])
    elif (root := _value_of("--root", words)) is not None or _value_of("--table", words) is not None:
        name = "table" if _value_of("--table", words) is not None else _recognised(Path(str(root)), offers)
        words = ["ingest", name, *words[1:]]
        command = shlex.join(["python", "-m", "medsae", *words])
        print(f"{root or 'this'} looks like {offers[name].label}; running: {command}", file=sys.stderr)
    return words, _sources()


def _recognised(root: Path, offers: dict[str, plugins.Source]) -> str:
    if files.REMOTE.match(str(root)):
        raise UserError("a bucket is not looked into to find out what it holds", files.shown(root),
                        f"name the source: one of {', '.join(offers)}")  # fmt: skip
    folder = root.expanduser().resolve()
    if not folder.is_dir():
        raise UserError("the folder does not exist", root, "check the path")
    found, doubts = [], []
    for name, offer in sorted(offers.items(), key=lambda item: item[1].any_folder):
        if offer.recognise is not None and not (offer.any_folder and (found or doubts)):
            try:
                if plugins.named(offer.recognise)(folder) is not None:
                    found.append(name)
            except UserError as error:  # it is this data set, but something about it must be mended
                doubts.append((name, error))
    if len(found) == 1:
        return found[0]
    commands = "; ".join(f"python -m medsae ingest {name} --root {shlex.quote(str(root))}" for name in found)
    if found:
        raise UserError(f"the folder looks like {len(found)} data sets", root, f"say which: {commands}")
    if doubts:
        raise doubts[0][1]
    tables = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".jsonl",
                    ".parquet", ".xlsx", ".gz"))  # fmt: skip
    do = (f"python -m medsae ingest table --table {shlex.quote(str(root / tables[0]))}" if tables
          else "write a table with a line for each picture (path, patient, a column for each label), then: python -m"
               f" medsae ingest table --table FILE --root {shlex.quote(str(root))}; or name the source: one of"
               f" {', '.join(offers)}")  # fmt: skip
    raise UserError(
        "the folder is no data set that is known here" + ("" if tables else ", and holds no table"), root, do
    )


def _value_of(flag: str, words: list[str]) -> str | None:
    """The value of an option before the options are parsed: what is chosen decides which options there are."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == flag and following:
            return following
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def _step(config: Any, store: Store, progress: Progress) -> dict[str, Any]:
    # Imported here: `list`, `show` and `--help` answer without loading torch.
    from medsae.steps import run

    return run(config, store, progress)


def _print_list(store: Store, config: c.List) -> None:
    if config.kind == "names":
        _print_names(store, config)
        return
    found, problems = store.scan(config.kind)
    if config.json:
        print(_json([artifact.manifest for artifact in found]))
    else:
        for artifact in found:
            facts = "  ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in artifact.facts.items()
                              if isinstance(v, (int, float, str)))  # fmt: skip
            print(f"{artifact.kind:10}  {artifact.id}  {facts}")
    if config.kind is None:
        from medsae.store import health  # reads ledgers, as `_print_names`

        problems += [*health.troubles(store), *jobs.Jobs(store.data).troubles()]
    for problem in problems:
        _tell(f"medsae: {problem}")


def _print_names(store: Store, config: c.List) -> None:
    """Names are a ledger and no artifact: one line for each scores that have some."""
    # Imported here: no other command reads ledgers without a step.
    from medsae.store import health
    from medsae.store.ledger import Ledger

    asked = "SELECT count(DISTINCT neuron) FROM {lines} WHERE kind = 'name' AND status = 'ok'"
    rows, problems = [], []
    for id in health.ledgers(store):
        ledger = Ledger(store, id)
        tally, found = ledger.tally(), ledger.rows(asked)
        rows.append({"scores": id, "named": found[0][0] if found else 0, "lines": tally.lines,
                     "not_sealed": tally.unsealed, "damaged": len(tally.damaged)})  # fmt: skip
        problems += ledger.troubles()
    if config.json:
        print(_json(rows))
    else:
        for row in rows:
            old = f"  not sealed={row['not_sealed']} of {row['lines']} lines" if row["not_sealed"] else ""
            print(f"names       {row['scores']}  neurons={row['named']}{old}")
    for problem in problems:
        _tell(f"medsae: {problem}")


def _print_show(store: Store, config: c.Show) -> None:
    artifact = store.get(config.id)
    artifact.verify()
    if config.json:
        print(_json(artifact.manifest))
        return
    print(f"{artifact.id} ({artifact.kind})\n  folder   {artifact.path}")
    print(f"  made by  {' '.join(artifact.manifest['command'])}")
    if not artifact.sealed:
        print("  not sealed: made by an older version; nothing covers the facts below but the eye")
    for title in ("config", "parents", "inputs", "facts", "versions", "hardware"):
        print(f"  {title}")
        for key, value in artifact.manifest[title].items():
            print(f"    {key:20} {value}")
    print("  files (sha256 checked)")
    for name, entry in artifact.manifest["files"].items():
        print(f"    {name:20} {entry['bytes']:>12,} bytes  {entry['sha256']}")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True)
