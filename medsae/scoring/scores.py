"""Everything that one representation is scored by, in one call: activations and labels in, tables out.

Passes over the activations: one for a sparse representation whose non-zeros fit in memory (60 million). Otherwise one,
one for histograms and extremes, one for each group of draws that fits in 400 MiB (null and bootstrap), one for each 768
MiB of columns for AUROC and for what is left given attributes, and one for the chosen columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from medsae.progress import Progress, Silent
from medsae.scoring import frames, whole
from medsae.scoring.activity import Held, Source
from medsae.scoring.best import Best, best_neurons
from medsae.scoring.bootstrap import Bootstrap, bootstrap, resampled
from medsae.scoring.confounded import Attribute, Cohort, confounded, followed
from medsae.scoring.curve import Curve, entropy_curve
from medsae.scoring.design import Design, Profiles
from medsae.scoring.draws import Patients, Permutations, Resamples
from medsae.scoring.entropy import entropy
from medsae.scoring.labels import Uncertain, Unstated, label_matrix, one_hot
from medsae.scoring.layout import places
from medsae.scoring.matched import matched_entropy
from medsae.scoring.measures import Scored, statistics
from medsae.scoring.monosemantic import similarity
from medsae.scoring.neighbours import coactivation_neighbours, decoder_neighbours
from medsae.scoring.null import Null, largest, null_draws, permutation_null, reach
from medsae.scoring.pieces import NOWHERE, Arrays, Kept, packed, unpacked
from medsae.scoring.profile import Activations, profile
from medsae.scoring.recovery import Recovery, truth_recovery
from medsae.scoring.sufficient import Correlations, Sufficient
from medsae.scoring.summary import summary


@dataclass(frozen=True)
class Truth:
    """Planted factors of a simulated cohort and the rivals that a neuron must beat at finding them."""

    names: Sequence[str]
    factors_nf: NDArray[np.bool_]
    mask_nf: NDArray[np.bool_] | None = None
    """Where a factor is defined at all; None: everywhere."""
    rivals: Mapping[str, Source] = field(default_factory=dict)
    """Other representations of the same images: `preactivation`, `raw`, `random`; the scored one is `activation`."""


@dataclass(frozen=True)
class Scores:
    """Tables ready to be written (columns in docs/statistics.md), and draws that pair with another representation."""

    neuron: pd.DataFrame
    correlation: pd.DataFrame
    activation: Activations
    histogram: pd.DataFrame
    summary: pd.DataFrame
    null_histogram: pd.DataFrame
    label_summary: pd.DataFrame
    draw: pd.DataFrame
    """draw, kind (`permutation`, `bootstrap`), mean_entropy, mean_entropy_strong."""
    attribute_correlation: pd.DataFrame
    """Correlations with one-hot attributes (confounders); empty without attributes."""
    recovery: pd.DataFrame
    """Truth recovery; empty without planted factors."""
    neuron_measure: pd.DataFrame
    """neuron, measure, value: the declared measures of single neurons; NaN where undefined."""
    draw_measure: pd.DataFrame
    """kind, draw, measure, value: every measure that is taken of draws."""
    entropy_curve: pd.DataFrame
    """Mean entropy of parts of the patients (`curve.Curve`)."""
    neighbour: pd.DataFrame
    """neuron, rank, other, measure (`decoder`, `coactivation`), value."""
    confounded: pd.DataFrame
    """A row a neuron: what is left of its strongest correlation given attributes (`scoring.confounded`)."""
    given: pd.DataFrame
    """A row a neuron and attribute: what is left given that one alone."""
    place_m2: NDArray[np.float32] | None
    """The map of the neurons that fire (`scoring.layout`), NaN for others; None without a decoder."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of n images, in the order of their activations."""

    values_nk: ArrayLike
    """1, 0, -1 or blank."""
    labels: Sequence[str]
    """The names of the k labels."""
    patients: ArrayLike
    """One id an image."""
    attributes: Mapping[str, ArrayLike] = field(default_factory=dict)
    """Name -> value an image (None = unknown), correlated as confounders."""
    held: Mapping[str, ArrayLike] = field(default_factory=dict)
    """Name -> value an image: what a neuron's own strongest correlation is given (`scoring.confounded`)."""
    truth: Truth | None = None
    independent_nd: NDArray[np.floating] | None = None
    """Embeddings of the same images by another encoder (`scoring.monosemantic`)."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """How to score; the defaults are those of `score`."""

    uncertain: Uncertain = "missing"
    unstated: Unstated = "missing"
    draws: int = 200
    bootstraps: int = 200
    fdr: float = 0.05
    top: int = 500
    seed: int = 0
    given: Sequence[str] = ()
    """Attributes that partial correlations take out."""
    kept: Kept = NOWHERE
    """Where finished pieces lie."""


MANY_PLACES = 2_000
"""From so many neurons on it is said that their map is laid out: it takes a while."""


def score_arrays(
    source: Source,
    known: Known,
    choices: Choices,
    *,
    decoder_md: NDArray[np.floating] | None = None,
    raw: Source | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score every neuron of `source` (n images, m neurons) against the labels of the images.

    `decoder_md`: an SAE's decoder rows, for neighbours. `raw`: the raw embedding of the same images, to be cut to fire
    as often (only for an SAE).

    Draws depend on seed and patients only, so that scores of two representations of the same images pair draw by draw.
    Raises UserError for label values that are none of the four and for activations that are not finite.
    """
    report = progress or Silent()
    labels, fdr, kept = known.labels, choices.fdr, choices.kept
    begun = _begin(source, known, choices, report)
    held, design, grouped, correlations = begun.held, begun.design, begun.grouped, begun.correlations
    entropies, (max_rho_m, top_m) = entropy(correlations.rho_mk), begun.strongest
    with report.task("profiles of neurons", held.m, "neurons") as task:
        profiles = profile(held, correlations.mean_m, choices.top)
        task.advance(held.m)
    taken = statistics()
    permutations, resamples = _drawing(grouped, choices)
    null = permutation_null(held, design, correlations, profiles, permutations, fdr, taken, report)
    booted = bootstrap(held, design, profiles.active_m, resamples, taken, null, reach(null, correlations, fdr), report)
    alone = _made_alone(begun, known, choices, (decoder_md, raw), report)
    kept.expect("alone", len(alone))
    made: dict[str, Arrays] = {}
    for number, (name, make) in enumerate(alone.items()):
        piece = kept.group("alone", number, make)
        assert piece is not None, "whoever puts scores together has all pieces"
        made[name] = piece
    best, curve = whole.bests(made["best"])[""], Curve(unpacked(made["curve"], "rows"))
    table, alone_given = confounded(held, begun.cohort, top_m, report, kept)
    observed = Profiles(
        correlations.rho_mk, correlations.n_k.astype(float), begun.residual.rho_mk, design, profiles.active_m
    )
    alike = None
    if known.independent_nd is not None:
        alike = similarity(held, known.independent_nd, permutations, report)
    matched = whole.matched(made["matched"]) if raw is not None else None
    n, mask_nk = begun.design.mask_nk.shape[0], design.mask_nk
    scored = Scored(
        observed, design, profiles, null, booted.values, booted.reaching_t, curve, matched, n, fdr, similarity=alike
    )
    return Scores(
        neuron=frames.neurons(correlations, entropies, (max_rho_m, top_m), scored),
        correlation=frames.correlations(correlations, labels),
        activation=profiles.activations,
        histogram=frames.histograms(profiles),
        summary=summary(scored, taken),
        null_histogram=frames.null_histogram(null.histogram),
        label_summary=frames.label_summary(np.asarray(known.values_nk), mask_nk, labels, best, correlations).assign(
            floor=design.floor.bits_k, partial_floor=design.floor.partial_bits_k
        ),
        draw=_draws(null, booted),
        attribute_correlation=frames.attribute_correlations(begun.attributes),
        recovery=_recovery(known.truth, made.get("recovery")),
        neuron_measure=frames.neuron_measures(scored),
        draw_measure=frames.draw_measures(null.values, booted.values),
        entropy_curve=curve.rows,
        neighbour=unpacked(made["neighbours"], "rows"),
        confounded=table,
        given=alone_given,
        place_m2=made["places"]["xy"] if "places" in made else None,
    )


def make_some(
    source: Source,
    known: Known,
    choices: Choices,
    *,
    decoder_md: NDArray[np.floating] | None = None,
    raw: Source | None = None,
    progress: Progress | None = None,
    besides: Callable[[Callable[[], Activations]], None] | None = None,
) -> None:
    """What `score_arrays` puts together, for one of several commands that make it: `choices.kept` says which pieces are
    its own, and keeps them. All activations are made before anything else, by whoever comes first to a piece.

    `besides`: makes pieces of other kinds, given the activations of `Scores` when it asks for them."""
    report, kept = progress or Silent(), choices.kept
    begun = _begin(source, known, choices, report)
    held, design, taken = begun.held, begun.design, statistics()
    permutations, resamples = _drawing(begun.grouped, choices)
    # The longest pieces first.
    for number, make in enumerate(_made_alone(begun, known, choices, (decoder_md, raw), report).values()):
        kept.group("alone", number, make)
    if besides is not None:
        besides(lambda: profile(held, begun.correlations.mean_m, choices.top).activations)
    for pieces in (
        null_draws(held, design, held.active_m, permutations, taken, report),
        resampled(held, design, held.active_m, resamples, taken, report),
        followed(held, begun.cohort, begun.strongest[1], report, kept),
    ):
        for _ in pieces:
            pass
    report.say("the pieces of this command are done; those that others have not finished are made too")
    kept.help()


@dataclass(frozen=True)
class _Begun:
    """What everything else rests on: one pass over the activations."""

    held: Held
    design: Design
    grouped: Patients
    correlations: Correlations
    residual: Correlations
    attributes: dict[str, tuple[list[str], Correlations]]
    """Correlations with each attribute, value by value."""
    cohort: Cohort
    """What a neuron may follow in place of its label."""

    @cached_property
    def strongest(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Largest |rho| of each neuron, and its label."""
        return largest(np.abs(self.correlations.rho_mk))


def _begin(source: Source, known: Known, choices: Choices, report: Progress) -> _Begun:
    y_nk, mask_nk = label_matrix(known.values_nk, choices.uncertain, choices.unstated)
    n, k = y_nk.shape
    assert k == len(known.labels) and len(np.asarray(known.patients)) == n, "a name a label and a patient an image"
    grouped, hot = Patients.of(known.patients), _hot(known)
    given = {name: hot[name][0] for name in choices.given if name in hot}
    design = Design.of(y_nk, mask_nk, known.labels, given, choices.kept)
    del y_nk  # the design has its own
    held = Held(source, n, kept=choices.kept)
    held.prepare(report)
    correlations, residual, attributes = _first_pass(held, design, hot, report)
    held.center(correlations.mean_m)
    besides = [one for name, values in known.held.items() if (one := Attribute.of(name, values))]
    cohort = Cohort(design.y_nk, mask_nk, known.labels, besides, grouped, choices.seed)
    return _Begun(held, design, grouped, correlations, residual, attributes, cohort)


Besides: TypeAlias = "tuple[NDArray[np.floating] | None, Source | None]"
"""Decoder rows of an SAE, and the raw embedding of the same images."""


def _made_alone(
    begun: _Begun, known: Known, choices: Choices, besides: Besides, report: Progress
) -> dict[str, Callable[[], Arrays]]:
    """Work that is one piece each, by name; which there is follows from the question."""
    held, design, grouped, seed = begun.held, begun.design, begun.grouped, choices.seed
    decoder_md, raw = besides
    labels, truth, m = len(design.labels), known.truth, held.m

    def cut() -> Arrays:
        assert raw is not None
        bits_m, draws = entropy(begun.correlations.rho_mk).bits_m, _drawing(grouped, choices)
        return whole.kept_matched(matched_entropy(raw, bits_m, held.active_m, design, *draws, seed))

    def found() -> Arrays:
        assert truth is not None
        return whole.kept_bests(_found(truth, held, known.patients, seed))

    def laid_out() -> Arrays:
        assert decoder_md is not None
        shown_m = held.active_m > 0
        if shown_m.sum() > MANY_PLACES:
            report.say(f"laying out a map of {shown_m.sum():,} neurons")
        return {"xy": places(np.asarray(decoder_md), shown_m, seed)}

    # The longest come first, and beside each other: with two commands they are on different ones.
    work: dict[str, tuple[tuple[str, int, str], Callable[[], Arrays]]] = {
        "places": (("map of neurons", m, "neurons"), laid_out),
        "matched": (("raw neurons cut to fire as often", m, "neurons"), cut),
        "curve": (("entropy of parts of the patients", 1, "pass"),
                  lambda: packed(rows=entropy_curve(held, design, grouped, seed, held.active_m).rows)),
        "best": (("best neuron of each label", labels, "labels"),
                 lambda: whole.kept_bests({"": best_neurons(held, design.y_nk, design.mask_nk, grouped, seed)})),
        "recovery": (("truth recovery", len(truth.names) if truth else 0, "factors"), found),
        "neighbours": (("neighbours", m, "neurons"), lambda: packed(rows=_neighbours(held, decoder_md))),
    }  # fmt: skip
    absent = {"places": decoder_md is None, "matched": raw is None, "recovery": truth is None}
    return {name: _told(report, *one) for name, one in work.items() if not absent.get(name)}


def _told(report: Progress, task: tuple[str, int, str], make: Callable[[], Arrays]) -> Callable[[], Arrays]:
    """The same as a task of its own."""

    def made() -> Arrays:
        with report.task(*task) as doing:
            arrays = make()
            doing.advance(task[1])
        return arrays

    return made


Hot: TypeAlias = Mapping[str, tuple[NDArray[np.float32], NDArray[np.bool_], list[str]]]


def _hot(known: Known) -> Hot:
    """Attributes as columns; without those that have no column."""
    hot = {name: one_hot(values) for name, values in known.attributes.items()}
    return {name: columns for name, columns in hot.items() if columns[2]}


def _drawing(patients: Patients, choices: Choices) -> tuple[Permutations, Resamples]:
    kept, seed = choices.kept, choices.seed
    return (Permutations(patients, choices.draws, seed, kept=kept),
            Resamples(patients, choices.bootstraps, seed, kept))  # fmt: skip


def _first_pass(
    held: Held,
    design: Design,
    attributes: Hot,
    report: Progress,
) -> tuple[Correlations, Correlations, dict[str, tuple[list[str], Correlations]]]:
    """Correlations with the labels, with what is left of them and, in the same pass, with each attribute."""
    k = len(design.labels)
    sums = Sufficient(design.all_nk, design.all_mask_nk)
    others = {name: Sufficient(y, mask) for name, (y, mask, _) in attributes.items()}
    with report.task("activations and correlations", len(design.y_nk), "images") as task:
        for rows, block in held.first_pass():
            sums.update(block, rows)
            for other in others.values():
                other.update(block, rows)
            task.advance(rows.stop - rows.start)
    found = {name: (attributes[name][2], other.result()) for name, other in others.items()}
    both = sums.result()
    return both.columns(slice(0, k)), both.columns(slice(k, None)), found


def _neighbours(held: Held, decoder_md: NDArray[np.floating] | None) -> pd.DataFrame:
    parts = [coactivation_neighbours(held).assign(measure="coactivation")]
    if decoder_md is not None:
        parts.append(decoder_neighbours(decoder_md).assign(measure="decoder"))
    return pd.concat(parts, ignore_index=True)


def _draws(null: Null, booted: Bootstrap) -> pd.DataFrame:
    parts = (("permutation", null.values), ("bootstrap", booted.values))
    names = ("mean_entropy", "mean_entropy_strong")
    return pd.concat(
        [
            pd.DataFrame(
                dict(draw=np.arange(len(values[names[0]])), kind=kind, **{name: values[name] for name in names})
            )
            for kind, values in parts
        ],
        ignore_index=True,
    )


def _found(truth: Truth, held: Held, patients: ArrayLike, seed: int) -> dict[str, list[Best]]:
    """The best neurons of each factor by representation."""
    mask_nf = np.ones(truth.factors_nf.shape, bool) if truth.mask_nf is None else truth.mask_nf
    return truth_recovery({"activation": held, **truth.rivals}, truth.factors_nf, patients, seed, mask_nf).best


def _recovery(truth: Truth | None, made: Arrays | None) -> pd.DataFrame:
    if truth is None or made is None:
        nothing = np.zeros((0, 0), bool)
        return frames.recovery(None, [], nothing, nothing)
    mask_nf = np.ones(truth.factors_nf.shape, bool) if truth.mask_nf is None else truth.mask_nf
    return frames.recovery(Recovery(whole.bests(made)), truth.names, truth.factors_nf, mask_nf)
