"""`score`: every neuron of a representation against the labels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from medsae.config.base import Command, Protocol, Scope, Sharded, added, check, runtime

ATTRIBUTES = ("view", "sex", "age")
"""What a neuron may follow instead of a finding."""


@dataclass(frozen=True, kw_only=True)
class Score(Sharded, Command):
    """Score every neuron of a representation: correlations, entropies, what shuffled labels give, top images."""

    embeddings: str | None = None
    """Id of the embeddings (with --representation raw)."""
    representation: Literal["raw"] | None = None
    """`raw`: the identity representation of the embeddings."""
    sae: str | None = None
    """Id of the SAE."""
    versus: str | None = None
    """Another SAE of the same embeddings (another seed): its neurons are matched with these (stability)."""
    images: Scope = "evaluation"
    """Which images: the balanced evaluation set, a split, or all."""
    protocol: Protocol = "strict"
    """Fills the label policy: `strict` keeps unknown apart from absent; `paper` takes blank as 0 and keeps -1."""
    uncertain: Literal["missing", "zero", "one", "keep"] | None = None
    """What an uncertain label (-1) counts as; `keep` uses -1 as a number, as the published code does."""
    unstated: Literal["missing", "zero"] | None = None
    """What a blank label counts as."""
    tokens: Literal["max", "mean", "share"] | None = added(None)
    """Of token embeddings: what a picture's activation is, the largest of its tokens (default), their mean, or the
    share of them on which the neuron fires."""
    draws: int = 200
    """Draws of the permutation null (label rows shuffled between patients)."""
    bootstraps: int = 200
    """Draws of the bootstrap by patient."""
    fdr: float = 0.05
    """False-discovery rate of selective neurons."""
    top: int = 500
    """Images kept at each end of a dense (raw) neuron."""
    maps: bool = added(True)
    """Keep where the value of a neuron was collected on its strongest images, where the encoder allows it."""
    occlude: bool = added(False)
    """Where the encoder has no exact map: keep approximate ones by occlusion (it runs 65 times for each image)."""
    deletions: int = added(16)
    """Neurons, drawn by chance, whose maps are tested: their strongest part of a picture is replaced (0: none)."""
    seed: int = 0
    """Seed of permutations and bootstrap."""
    labels: str | None = added(None)
    """Only these labels, separated by commas (default: all; the published code takes 8 of them)."""
    given: str = added("view,sex,age")
    """Attributes that partial correlations take out of the labels, separated by commas: of view, sex, age."""
    vocabulary: str | None = added(None)
    """A file of terms, one a line, for the text lens (default: the shipped list of radiological terms); the record
    holds its name and the beginning of its sha256."""
    confounders: str = added("view,age,sex,devices,site")
    """Attributes of the cohort, separated by commas, that each neuron's strongest correlation is held against."""
    ms_embeddings: str | None = added(None)
    """Id of embeddings of the same cohort by an *independent* encoder: is what a neuron fires on alike to it (MS)?"""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """Where to compute."""

    step = "score"
    makes = "scores"

    def __post_init__(self) -> None:
        Sharded.__post_init__(self)
        check(
            (self.sae is None) != (self.representation is None),
            "give either --sae ID, or --embeddings ID --representation raw",
        )
        check(
            (self.representation is None) == (self.embeddings is None),
            "--representation raw needs --embeddings ID (an SAE knows its own)",
        )
        check(
            self.draws >= 1 and self.bootstraps >= 1 and self.top >= 1,
            "--draws, --bootstraps and --top must be at least 1",
        )
        check(0 < self.fdr < 1, f"--fdr {self.fdr} must lie in (0, 1)")
        check(self.deletions >= 0, f"--deletions {self.deletions} must not be negative")
        strange = [name for name in self.attributes if name not in ATTRIBUTES]
        check(not strange, f"--given: there is no attribute {', '.join(strange)}", do=f"of {', '.join(ATTRIBUTES)}")
        check(self.labels is None or bool(self.label_list), "--labels names no label")

    @property
    def attributes(self) -> list[str]:
        """The attributes of --given in their order, without repeats."""
        return list(dict.fromkeys(word.strip() for word in self.given.split(",") if word.strip()))

    @property
    def held(self) -> list[str]:
        """The attributes of --confounders in their order, small letters, without repeats."""
        return list(dict.fromkeys(word.strip().lower() for word in self.confounders.split(",") if word.strip()))

    @property
    def label_list(self) -> list[str]:
        """The labels of --labels as written; empty: all."""
        return list(dict.fromkeys(word.strip() for word in (self.labels or "").split(",") if word.strip()))

    def resolved(self) -> Score:
        """The same config with the label policy filled from the protocol."""
        uncertain, unstated = ("missing", "missing") if self.protocol == "strict" else ("keep", "zero")
        return replace(self, uncertain=self.uncertain or uncertain, unstated=self.unstated or unstated)
