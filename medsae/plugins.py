"""What can be added without a change here: one registry an extension point.

An encoder, a source of cohorts, a naming backend, an exchange format or a measure is *offered* by a module that
registers it when it is imported:

    from medsae.plugins import Encoder, encoders

    encoders.register(Encoder(name="my-net", label="My net", help="...", load="my_package.network:load"))

What is built in lies in the package that a registry names (each module of it is imported); a package of its own adds to
it by an entry point of the registry's group, whose value is such a module (`examples/plugin`). A module that registers
must stay light: the web server imports it, so torch is imported by what `load` names, when it is used. A plug-in that
cannot be imported is left out and named in `problems`.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Generic, Literal, TypeVar

from medsae.progress import UserError


def named(where: str) -> Any:
    """What `package.module:attribute` names. Raises ImportError or AttributeError."""
    module, _, attribute = where.partition(":")
    return getattr(importlib.import_module(module), attribute)


@dataclass(frozen=True, kw_only=True)
class Offer:
    """Something that can be chosen by its name."""

    name: str
    """The word on the command line and in the saved record."""
    label: str
    """The name that people read."""
    help: str
    """One sentence: what it is, and where it comes from."""
    load: str
    """`package.module:attribute`: what does the work, imported when it is used and not before."""
    options: type | None = None
    """A frozen dataclass of its own options, each with a docstring: they become options of the command line."""

    def loaded(self) -> Any:
        """What `load` names. Raises ImportError or AttributeError where the plug-in is broken."""
        return attribute(self.load)


def attribute(named: str) -> Any:
    """The object that `package.module:attribute` names. Raises ImportError or AttributeError where it is not there."""
    module, _, name = named.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True, kw_only=True)
class Encoder(Offer):
    """An image encoder. `load` names `load(wanted) -> encoders.Encoder`, where `wanted` (`encoders.sources.Wanted`) has
    the name, weights that a person gave, the cache folder, a progress and the options.

    `options` is `config.Pooling` (the default) or a subclass of it: what the encoder can be asked for."""

    files: str
    """`package.module:attribute` of `files(wanted) -> encoders.sources.Files`: every file that decides an embedding
    (weights, config, preprocessing) with its sha256, found or fetched without torch."""
    text: str | None = None
    """`package.module:attribute` of `load(wanted) -> encoders.TextTower`, where the encoder has a text tower."""
    prefix: bool = False
    """`name` is the beginning of a family: `hf:` takes every `hf:ORG/NAME`."""


@dataclass(frozen=True, kw_only=True)
class Source(Offer):
    """A published data set or another origin of a cohort. `options` is the whole config of `ingest NAME`, a subclass of
    `config.Splitting` and `config.Command`; `load` names `read(config) -> tabular.CohortTable`."""

    order: int = 100
    """Place in lists and in the docs; the smallest first."""
    draws: bool = False
    """It draws its pictures itself: `load` names a step `run(config, store, progress) -> manifest`."""
    licence: str = ""
    citation: str = ""
    recognise: str | None = None
    """`package.module:attribute` of `recognise(folder) -> config | None`: whether a folder is this data set."""
    any_folder: bool = False
    """It would recognise other sources' folders too: asked only where no other source knows the folder."""


@dataclass(frozen=True, kw_only=True)
class Backend(Offer):
    """Who names and judges. `load` names `load(config, study, progress) -> naming.backends.Backend`."""

    knows: tuple[tuple[str, str], ...] = ()
    """(model, source of cohorts) of models that have seen pictures of one source only; the others are refused."""
    first: bool = False
    """Where nobody chooses, pages ask its model about the pictures that it knows, before the labels."""


@dataclass(frozen=True, kw_only=True)
class Format(Offer):
    """SAEs of another program. `load` names the pure function `read(tensors, told) -> formats.plain.Plain`: tensors by
    name, and what the config says; a KeyError means that it is not of this format."""

    files: tuple[str, ...]
    """Names that the file of weights may have; the first is written. safetensors, npz, or a state dict of torch."""
    config: str | None = None
    """Name of the JSON file beside it; None: a line of JSON before the weights, or none."""
    write: str | None = None
    """`package.module:attribute` of the pure function `write(plain, about) -> (tensors, told)`, where it can be."""


@dataclass(frozen=True, kw_only=True)
class Measure(Offer):
    """One number that `score` writes. `label` is what a page calls it, `help` says what it means.

    What `load` names depends on `of` (types in `medsae.scoring.measures`):

    - `profiles`: `f(Profiles) -> float | (float, n)`, a number of all neurons' correlations. It is taken of the labels
      as they are, of every draw with shuffled labels (its null and two-sided p) and of every resample of patients (its
      interval): rows NAME, null_NAME, null_NAME_sd and NAME_p_two_sided of `summary`.
    - `scored`: `f(Scored) -> Value`, with an interval of its own or none: the row NAME of `summary`.
    - `neurons`: `f(Scored) -> floats [m]` (NaN: undefined): the rows NAME of `neuron_measure`.
    - `sae`: nothing is loaded: the fact NAME of the SAE's artifact, known since training.
    """

    unit: Literal["bits", "nats", "share", "number"]
    of: Literal["profiles", "scored", "neurons", "sae"] = "scored"
    over: str = ""
    """What `n` counts."""
    null: str | None = None
    """The measure that says what shuffled labels give, where it is not null_NAME."""
    null_value: float | None = None
    """What shuffled labels give where that needs no draws (0.5 for an AUROC)."""
    digits: int = 2
    shown: tuple[str, ...] = ()
    """Pages with a row for it: overview, neuron."""
    order: int = 100
    """Place on a page and in the docs; the smallest first."""

    @property
    def null_measure(self) -> str | None:
        """The row of `summary` with its null, or None."""
        return self.null or (f"null_{self.name}" if self.of == "profiles" else None)


T = TypeVar("T", bound=Offer)


class Registry(Generic[T]):
    """The offers of one extension point, by name."""

    def __init__(self, group: str, package: str):
        """`group`: entry points of third parties; `package`: where the modules of what is built in lie."""
        self.group, self.package = group, package
        self.problems: list[str] = []
        """One sentence for each plug-in that was left out."""
        self._offers: dict[str, T] = {}
        self._searched = False
        self._lock = threading.RLock()

    def register(self, offer: T) -> T:
        """Add an offer. Raises ValueError when its name is taken: nothing is replaced silently."""
        if self._offers.get(offer.name, offer) != offer:
            raise ValueError(f"{self.group}: the name {offer.name!r} is taken")
        self._offers[offer.name] = offer
        return offer

    def all(self) -> dict[str, T]:
        """Every offer by name, by their `order` where they have one, then by name."""
        with self._lock:
            if not self._searched:
                self._searched = True
                for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                    importlib.import_module(f"{self.package}.{module.name}")
                for point in metadata.entry_points(group=self.group):
                    try:
                        point.load()
                    except Exception as error:  # a plug-in is foreign code: whatever it raises, the rest works
                        name = point.dist.name if point.dist else point.value
                        self.problems.append(
                            f"the plug-in {point.name!r} of {name} is left out: {type(error).__name__}: {error}"
                        )
                # by what is said, not by what happened to be imported first
                rank = {name: (getattr(offer, "order", 100), name) for name, offer in self._offers.items()}
                self._offers = {name: self._offers[name] for name in sorted(rank, key=rank.__getitem__)}
        return self._offers

    def get(self, name: str) -> T:
        """The offer of this name, or of the family whose prefix begins it; UserError names what there is."""
        offers = self.all()
        if name in offers:
            return offers[name]
        for offer in offers.values():
            if getattr(offer, "prefix", False) and name.startswith(offer.name) and name != offer.name:
                return offer
        what = self.group.rsplit(".", 1)[-1].removesuffix("s")
        left_out = "; ".join(self.problems)
        raise UserError(f"there is no {what} {name!r}", left_out or None, f"choose one of {', '.join(offers)}")


encoders: Registry[Encoder] = Registry("medsae.encoders", "medsae.encoders.offered")
sources: Registry[Source] = Registry("medsae.sources", "medsae.cohorts.offered")
backends: Registry[Backend] = Registry("medsae.backends", "medsae.naming.offered")
formats: Registry[Format] = Registry("medsae.formats", "medsae.formats.offered")
measures: Registry[Measure] = Registry("medsae.measures", "medsae.scoring.offered")
