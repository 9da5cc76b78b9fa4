"""One frozen dataclass a step: the command line, the saved record and the identity of an artifact at once.

A field whose default is None is filled by the preset or protocol (`resolved`), so that the record never holds a
silent default. Fields marked `runtime` say how a step works, not what it makes (device, where the data lives): they
are on the command line, but not in the identity.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

import tyro.conf

from medsae import plugins, shards
from medsae.progress import UserError

Protocol: TypeAlias = Literal["strict", "paper"]
Scope: TypeAlias = Literal["evaluation", "holdout", "train", "all"]

CHEXPERT_LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema",
    "Consolidation", "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture",
    "Support Devices",
)  # fmt: skip
"""The 14 labels of CheXpert in the column order of its tables; labels are always joined by name."""


def runtime(default: Any) -> Any:
    """A field that says how, not what: left out of the identity."""
    return field(default=default, metadata={"runtime": True})


def added(default: Any) -> Any:
    """A field that came after artifacts were made: part of the identity only where it is not at its default."""
    return field(default=default, metadata={"added": True})


def repeated() -> Any:
    """A field whose option may be given several times; with one value its record is that value, as it was before."""
    return field(default=(), metadata={"repeated": True})


@dataclass(frozen=True, kw_only=True)
class Command:
    """What every command takes."""

    data: Path | None = runtime(None)
    """Folder of artifacts, jobs and cache (default: the variable MEDSAE_DATA, else ./data)."""
    json: bool = runtime(False)
    """Print the result as JSON on stdout."""


@dataclass(frozen=True, kw_only=True)
class Sharded:
    """What every step takes that several machines can do together (docs/how-to/slurm.md)."""

    shard: str | None = runtime(None)
    """Make only part i of N, given as i/N; when all are done, `medsae merge` and the same words make the whole."""

    def __post_init__(self) -> None:
        if self.shard is not None:
            shards.numbers(self.shard)


# --- ingest -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Splitting:
    """How patients are divided, and how the balanced evaluation set is drawn (paper, section 4.1)."""

    protocol: Protocol = "strict"
    """`strict`: patients disjoint between training, hold-out and evaluation. `paper`: the published walk."""
    per_class: int = 200
    """Pictures a class in the balanced evaluation set (CheXpert 14x200)."""
    evaluation_share: float = 0.25
    """Share of patients kept for evaluation (strict)."""
    holdout_share: float = 0.05
    """Share of patients kept for the hold-out metrics of the SAE (strict)."""
    division: Literal["stratified", "hashed"] = "stratified"
    """strict: `stratified` gives every split its share of each label; `hashed` looks at the patient alone."""
    shuffled: bool = added(False)
    """paper: walk the table in a random order (by --seed), as the published scripts do; else in its own order."""
    seed: int = 0
    """Seed of the split."""

    def __post_init__(self) -> None:
        check(self.per_class >= 1, f"--per-class {self.per_class} must be at least 1")
        for name in ("evaluation_share", "holdout_share"):
            check(0 <= getattr(self, name) < 1, f"--{name.replace('_', '-')} must lie in [0, 1)")
        check(self.evaluation_share + self.holdout_share < 1,
              "--evaluation-share and --holdout-share leave no patients to train on")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FromFiles(Splitting, Sharded, Command):
    """What every source takes whose pictures are files; a published data set adds its own options."""

    root: Path
    """The folder of the data set as it was downloaded and unpacked."""
    views: Literal["frontal", "lateral", "all"] = "all"
    """Which projections to take."""
    pictures: bool = True
    """Decode and check the pictures; without, only the tables are read and no thumbnails are made."""
    under: str | None = None
    """Take only pictures below this folder of --root (a name, or a pattern such as "images_*" or "*.png")."""
    drop_columns: str | None = None
    """Comma-separated columns that must not be kept as attributes (names of people, reports)."""
    allow_missing: bool = runtime(False)
    """Go on when fewer than half of the pictures are found."""
    allow_outside: bool = runtime(False)
    """Take pictures that the table names outside --root (`../`, an absolute path), whatever they are."""
    workers: int | None = runtime(None)
    """Processes that decode (default: one a core)."""

    step = "ingest"
    makes = "cohort"
    source = ""

    def __post_init__(self) -> None:
        Splitting.__post_init__(self)
        Sharded.__post_init__(self)
        check(self.workers is None or self.workers >= 1, f"--workers {self.workers} must be at least 1")
        # Absolute from the start: a relative folder would make two studies one, and a job started elsewhere fail.
        if self.root is not None:
            object.__setattr__(self, "root", Path(self.root).expanduser().resolve())


@dataclass(frozen=True, kw_only=True)
class IngestTable(FromFiles):
    """Any table (CSV, JSON lines, Parquet, Excel) with a column of picture paths and columns of labels."""

    table: Path
    """The table."""
    root: Path | None = None  # type: ignore[assignment]
    """Folder that the paths are relative to (default: the table's folder)."""
    path_column: str | None = None
    """Column with the picture's path (default: guessed, and said)."""
    label_columns: str | None = None
    """Comma-separated label columns (default: guessed, and said)."""
    finding_column: str | None = None
    """Column with findings in one string, such as NIH's "A|B"; also "['A', 'B']" of PadChest."""
    finding_separators: str | None = None
    """Characters that part the findings of one string, such as "|", ";,", or "," with levels "/" (default: guessed)."""
    negative: str = "No Finding"
    """Finding that means none of the others."""
    threshold: float | None = None
    """Label columns hold numbers from 0 to 1: from this one on a label is present, below it absent."""
    patient_column: str | None = None
    """Column with the patient (default: guessed; without any, every picture is its own patient, and it is said)."""
    study_column: str | None = None
    """Column with the study."""
    view_column: str | None = None
    """Column with the projection (PA, AP, LATERAL ...)."""
    sex_column: str | None = None
    """Column with the sex."""
    age_column: str | None = None
    """Column with the age in years."""
    split_column: str | None = None
    """Column with a published split (train, valid/validate/val, test)."""

    source = "table"

    def __post_init__(self) -> None:
        FromFiles.__post_init__(self)
        object.__setattr__(self, "table", Path(self.table).expanduser().resolve())
        check(self.threshold is None or 0 < self.threshold <= 1, f"--threshold {self.threshold} must lie in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class IngestSimulated(Splitting, Command):
    """Radiographs projected from a real chest CT with planted findings: the truth is known."""

    images: int = 10_000
    """Number of pictures."""
    size: int = 320
    """Side of a picture in px."""
    division: Literal["stratified", "hashed"] = added("hashed")
    """strict: `hashed` looks at the patient alone; `stratified` gives every split its share of each label."""
    workers: int | None = runtime(None)
    """Processes that draw (default: one a core)."""

    step = "ingest"
    makes = "cohort"
    source = "simulated"

    def __post_init__(self) -> None:
        Splitting.__post_init__(self)
        check(self.images >= 1, f"--images {self.images} must be at least 1")
        check(self.size >= 64, f"--size {self.size} must be at least 64")


# --- embed ------------------------------------------------------------------------------------------------------------

Pool: TypeAlias = Literal["pooler", "cls", "mean", "projected", "tokens"]


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """What is taken of an encoder: one vector a picture, or a vector for each of its cells."""

    pool: Pool | None = added(None)
    """One vector a picture: `pooler`, `cls`, `mean` or `projected`, where the encoder has it (default: its own).
    `tokens`: a vector for each cell of the picture's grid."""
    tokens_per_image: int | None = added(None)
    """--pool tokens: keep so many tokens of a picture, drawn at random (default: all)."""
    token_seed: int = added(0)
    """--tokens-per-image: seed of the draw."""


@dataclass(frozen=True, kw_only=True)
class Embed(Pooling, Sharded, Command):
    """Encode every picture of a cohort, or take embeddings made elsewhere."""

    cohort: str
    """Id (or unique beginning of the id) of the cohort."""
    encoder: str | None = None
    """Which encoder: a name from the list above; its own options follow from it."""
    weights: Path | None = runtime(None)
    """Checkpoint of the encoder (its sha256 is part of the identity; default: downloaded once, or shipped)."""
    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = runtime(None)
    """Embeddings made elsewhere, [n, d] of floats: .npy, .npz, .safetensors, .pt, .parquet or .csv."""
    rows: Path | None = runtime(None)
    """The picture of each row of --from: a table with a column `Path`, or one path a line (default: in --from)."""
    name: str | None = None
    """A name for embeddings made elsewhere."""
    unit_norm: bool | None = None
    """Divide each embedding by its L2 norm, as MedCLIP's encode_image does (default: as the encoder's own code)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """bf16 where it is faster (the cosine to fp32 is recorded), or forced."""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """Where to compute."""
    batch: int = runtime(32)
    """Pictures a forward pass."""
    workers: int | None = runtime(None)
    """Threads that decode (default: one a core)."""

    step = "embed"
    makes = "embeddings"

    def __post_init__(self) -> None:
        Sharded.__post_init__(self)
        check((self.encoder is None) != (self.from_ is None), "give either --encoder or --from")
        check(self.shard is None or self.from_ is None, "--shard goes with --encoder: --from is read at once")
        if self.encoder is not None:
            plugins.encoders.get(self.encoder)
        check(self.rows is None or self.from_ is not None, "--rows goes with --from")
        check(self.name is None or self.from_ is not None, "--name goes with --from")
        check(self.batch >= 1, f"--batch {self.batch} must be at least 1")
        check(self.pool is None or self.from_ is None, "--pool goes with --encoder")
        check(self.tokens_per_image is None or self.pool == "tokens", "--tokens-per-image goes with --pool tokens")
        check(self.tokens_per_image is None or self.tokens_per_image >= 1,
              f"--tokens-per-image {self.tokens_per_image} must be at least 1")  # fmt: skip


# --- train ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Relu:
    """z = ReLU(W_enc (x - b_pre) + b_enc), loss + l1 * sum z (paper, Eq. 1-2)."""

    formulas: ClassVar = "medsae.sae.kinds.relu:Relu"
    defaults: ClassVar = dict(l1=3e-4, decoder_norm="unit", encoder_norm=None)
    l1: float
    """Coefficient of the L1 penalty (lambda)."""
    decoder_norm: Literal["unit", "weighted"] = "unit"
    """`unit`: decoder rows kept at norm 1. `weighted`: free decoder, L1 on z_i * ||W_dec,i|| (Conerly et al. 2024)."""
    encoder_norm: float = 1.0
    """Norm of the encoder's rows at the start (docs/decisions/020): 1 is W_dec^T; 0.1 suits an l1 of 1 or more."""


@dataclass(frozen=True)
class TopK:
    """The k largest pre-activations of each image stay (Gao et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.topk:TopK"
    defaults: ClassVar = dict(k=32)
    k: int


@dataclass(frozen=True)
class BatchTopK:
    """The k * batch largest pre-activations of a batch stay; a fixed threshold at inference (Bussmann et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.topk:BatchTopK"
    defaults: ClassVar = dict(k=32)
    k: int


@dataclass(frozen=True)
class JumpRelu:
    """z = pre * H(pre - theta), L0 penalty through a straight-through estimator (Rajamanoharan et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.jumprelu:JumpRelu"
    defaults: ClassVar = dict(l0=1.0)
    l0: float


@dataclass(frozen=True)
class Gated:
    """A gate decides whether, a magnitude says how much (Rajamanoharan et al. 2024)."""

    formulas: ClassVar = "medsae.sae.kinds.gated:Gated"
    defaults: ClassVar = dict(l1=1.0)
    l1: float


@dataclass(frozen=True)
class Matryoshka:
    """Batch top-k over nested prefixes of the neurons (Bussmann et al. 2025)."""

    formulas: ClassVar = "medsae.sae.kinds.matryoshka:Matryoshka"
    defaults: ClassVar = dict(k=32)
    k: int


SaeKind: TypeAlias = Relu | TopK | BatchTopK | JumpRelu | Gated | Matryoshka
KINDS: dict[str, type[SaeKind]] = {
    cls.__name__.lower(): cls for cls in (Relu, TopK, BatchTopK, JumpRelu, Gated, Matryoshka)
}
"""Every kind of SAE by its name. A kind says here what it is asked for (its fields), what these are where nobody says
(`defaults`; None: follows from the others), and where its `formulas` stand; everything else follows from this table."""
if TYPE_CHECKING:
    KindName: TypeAlias = str
else:
    KindName = Literal[tuple(KINDS)]
TRAIN_PRESETS: dict[str, dict[str, Any]] = {
    # Section 4.1 of the paper; the batch is the default of the authors' code (docs/decisions/002).
    "paper": dict(kind="relu", l1=3e-4, expansion=16, epochs=200, lr=7e-6, batch=1024),
    "demo": dict(kind="topk", k=16, expansion=4, epochs=60, lr=1e-3, batch=256),
}
OPTIONS_OF_KINDS = tuple(dict.fromkeys(name for cls in KINDS.values() for name in cls.defaults))
_IMPLIED = {"l1": "relu", "decoder_norm": "relu", "k": "topk", "l0": "jumprelu"}
"""The kind that is meant where only an option of it is given."""


@dataclass(frozen=True, kw_only=True)
class Train(Sharded, Command):
    """Train a sparse autoencoder on embeddings. `--l1` alone means kind relu, `--k` alone means kind topk."""

    embeddings: str
    """Id (or unique beginning of the id) of the embeddings."""
    preset: Literal["paper", "demo"] = "demo"
    """Where unset options come from: `paper` is section 4.1, `demo` suits some thousand images."""
    kind: KindName | None = None
    """Kind of SAE."""
    l1: float | None = None
    """relu, gated: coefficient of the L1 penalty (lambda)."""
    decoder_norm: Literal["unit", "weighted"] | None = None
    """relu: unit decoder rows, or L1 weighted by the decoder norm."""
    encoder_norm: float | None = None
    """relu: norm of the encoder's rows at the start; 1, or 0.1 for an l1 of 1 or more (docs/decisions/020)."""
    k: int | None = None
    """topk, batchtopk, matryoshka: active neurons an image."""
    l0: float | None = None
    """jumprelu: coefficient of the L0 penalty."""
    expansion: int | None = None
    """Neurons as a multiple of the embedding dimension d (default: the preset's; that of demo is cut so that there are
    no more neurons than training images, docs/decisions/132)."""
    epochs: int | None = None
    """Passes over the training images."""
    lr: float | None = None
    """Learning rate of Adam."""
    batch: int | None = None
    """Images a step (default: the preset's, cut so that an epoch of a small cohort has at least 8 steps)."""
    seed: int = 0
    """Seed of initialisation and order."""
    sweep: str | None = runtime(None)
    """Values to try, such as "l1=1e-4,3e-4,1e-3 seed=0,1": every combination is trained, scored and compared."""
    untrained: bool = added(False)
    """Not trained: random directions with the norms, thresholds and densities of the SAE that these options give
    (which must be there). The control that a measure must beat."""
    token_memory_mib: int = added(1024)
    """Tokens: memory for those that are shuffled together (MiB); what is trained depends on it."""
    images: Literal["train", "all"] = "train"
    """Training images: the train split, or every image (then nothing is held out, and it is said)."""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """Where to compute."""

    step = "train"
    makes = "sae"

    def __post_init__(self) -> None:
        Sharded.__post_init__(self)
        check(self.shard is None or self.sweep is not None, "--shard goes with --sweep: its members are the pieces",
              do="train one SAE on one machine")  # fmt: skip
        check(self.l1 is None or self.l1 >= 0, f"--l1 {self.l1} must not be negative")
        check(self.l0 is None or self.l0 >= 0, f"--l0 {self.l0} must not be negative")
        for name in ("k", "expansion", "epochs", "batch"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"--{name} {value} must be at least 1")
        check(self.encoder_norm is None or self.encoder_norm > 0,
              f"--encoder-norm {self.encoder_norm} must be positive")  # fmt: skip
        check(self.lr is None or self.lr > 0, f"--lr {self.lr} must be positive")

    def resolved(self, images: int, d: int | None = None) -> Train:
        """The config with every None filled, for `images` training images of d dimensions (None: not known, so many as
        any preset needs); UserError for options of another kind."""
        preset = TRAIN_PRESETS[self.preset]
        implied = (kind for name, kind in _IMPLIED.items() if getattr(self, name) is not None)
        kind = self.kind or next(implied, preset["kind"])
        own: dict[str, Any] = KINDS[kind].defaults | (
            {k: v for k, v in preset.items() if k in OPTIONS_OF_KINDS} if kind == preset["kind"] else {}
        )
        own |= {"l1": preset["l1"]} if kind == "relu" and "l1" in preset else {}
        for name in OPTIONS_OF_KINDS:
            flag = f"--{name.replace('_', '-')}"
            check(getattr(self, name) is None or name in own, f"{flag} does not belong to --kind {kind}",
                  do=f"leave {flag} out, or choose another --kind")  # fmt: skip
        values = {
            name: getattr(self, name) if getattr(self, name) is not None else value for name, value in own.items()
        }
        for name in ("expansion", "epochs", "lr"):
            values[name] = getattr(self, name) if getattr(self, name) is not None else preset[name]
        if self.expansion is None and self.preset == "demo" and d is not None:
            values["expansion"] = max(1, min(values["expansion"], images // d))
        if kind == "relu" and values["encoder_norm"] is None:
            values["encoder_norm"] = 1.0 if values["l1"] < 1 else 0.1
        if self.batch is not None:
            values["batch"] = self.batch
        else:
            values["batch"] = max(1, min(preset["batch"], max(32, images // 8), images))
        return replace(self, kind=kind, **values)

    def swept(self) -> list[Train]:
        """One config a combination of `--sweep`; UserError for an unknown option or a value that is no number."""
        kinds = {
            "l1": float,
            "lr": float,
            "l0": float,
            "k": int,
            "expansion": int,
            "seed": int,
            "epochs": int,
            "batch": int,
        }
        axes: list[list[tuple[str, float]]] = []
        for part in (self.sweep or "").split():
            name, _, values = part.partition("=")
            check(name in kinds, f"--sweep cannot vary {name!r}", do=f"one of {', '.join(kinds)}, as in l1=1e-4,3e-4")
            check(bool(values), f"--sweep {part!r} names no values", do="as in l1=1e-4,3e-4")
            try:
                axes.append([(name, kinds[name](value)) for value in values.split(",")])
            except ValueError as error:
                raise UserError(f"--sweep {part!r}: {error}", None, "as in l1=1e-4,3e-4") from error
        names = [axis[0][0] for axis in axes]
        check(len(set(names)) == len(names), "--sweep names an option twice")
        return [replace(self, sweep=None, shard=None, **dict(values)) for values in itertools.product(*axes)]

    @property
    def sae(self) -> SaeKind:
        """The kind with its own parameters; only of a resolved config."""
        assert self.kind is not None, "resolve the config first"
        cls = KINDS[self.kind]
        return cls(**{f.name: getattr(self, f.name) for f in fields(cls)})


# --- score ------------------------------------------------------------------------------------------------------------


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


# --- import, export ---------------------------------------------------------------------------------------------------

RESEARCH_ONLY = "Research use only, not for diagnosis."


@dataclass(frozen=True, kw_only=True)
class ImportSae(Command):
    """An SAE of another program, on embeddings of this one: an artifact that is scored, named and explored like any."""

    what: tyro.conf.Positional[Literal["sae"]] = runtime("sae")
    """What is imported."""
    format: str
    """Of which program: saelens, dictionary_learning, saev, overcomplete, sparsify, gemma_scope, or a plug-in's."""
    from_: Annotated[Path, tyro.conf.arg(name="from")] = field(metadata={"runtime": True})
    """Folder (or file) of the SAE; its sha256 is part of the identity."""
    embeddings: str
    """Id (or unique beginning of the id) of the embeddings that it takes."""
    subtract_bias: bool | None = None
    """Whether the decoder's bias is taken from an embedding before encoding (default: as the format says)."""

    step = "import"
    makes = "sae"
    source = "sae"

    def __post_init__(self) -> None:
        plugins.formats.get(self.format)


@dataclass(frozen=True, kw_only=True)
class ExportSae(Command):
    """An SAE as a folder of another program, with a card, ready for the Hub."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id of the SAE."""
    format: str
    """For which program: saelens, dictionary_learning, saev, overcomplete, sparsify, or a plug-in's."""
    to: Path
    """Folder to make."""

    step = "export"
    source = "sae"

    def __post_init__(self) -> None:
        plugins.formats.get(self.format)


@dataclass(frozen=True, kw_only=True)
class ExportScores(Command):
    """Neurons, correlations, activations, pictures and names of scores as files for notebooks."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id of the scores."""
    format: Literal["parquet"] = "parquet"
    """Parquet: one file a table."""
    to: Path
    """Folder to make."""

    step = "export"
    source = "scores"


# --- name, run, list, show --------------------------------------------------------------------------------------------


NO_MODEL = ("labels", "reports", "vocabulary")
"""Backends that look at no picture."""


@dataclass(frozen=True, kw_only=True)
class Name(Sharded, Command):
    """Name neurons and put the names to the test: which pictures fire, judged by someone who knows only the name."""

    scores: str
    """Id (or unique beginning of the id) of the scores."""
    neurons: str | None = None
    """Comma-separated neurons: 12,57."""
    top: int | None = None
    """The best N neurons --by a measure, of those that fire on enough pictures to be named and tested."""
    by: Literal["entropy", "correlation", "density"] = "entropy"
    """What --top orders by: lowest entropy, strongest |rho|, or highest density."""
    all: bool = False
    """Every neuron."""
    backend: str = "labels"
    """Who names and judges: `labels` (no model, the baseline), `endpoint` (a server), `medgemma` (in this process), or
    one that an installed package adds."""
    protocol: Protocol = "strict"
    """`strict`: one picture a prompt, naming and detection patients disjoint. `paper`: the published way."""
    model: str | None = None
    """endpoint: name of the model (default: the only one served). medgemma: google/medgemma-4b-it (default), a folder,
    or simgemma, a small one that comes with the program and knows only simulated radiographs."""
    endpoint: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = repeated()
    """endpoint: base address of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1. Given several times: all
    serve the same model, and the least busy is asked."""
    pictures: int | None = None
    """Firing and silent pictures each that a name is tested on (default: 30, or fewer where these scores do not allow
    so many; it is said)."""
    namer: str | None = added(None)
    """Another backend that gives the names, such as `reports` or `labels`; --backend then only judges."""
    reports: str | None = added(None)
    """Column of the cohort that holds report text (default: the only one)."""
    test: Literal["detection", "intruder", "rank"] = added("detection")
    """`detection`: does this picture show the concept? `intruder`: which of five pictures does not belong (needs no
    name)? `rank`: which of five excites the neuron most, for one who knows its name?"""
    against: Literal["ordinary", "hard"] = added("ordinary")
    """What naming compares with: ordinary radiographs as the model knows them, or `hard`, silent pictures with the
    neuron's own label shown beside (strict)."""
    hard: float = 0.0
    """Share of the silent pictures that carry the neuron's own label (hard negatives; strict)."""
    controls: bool = True
    """Judge the same pictures for another neuron's name and for a random description too."""
    audit: bool = runtime(True)
    """First ask a judge that these scores have not met about the cohort's own labels: what can it see?"""
    four_bit: bool = False
    """medgemma: weights in 4 bits (needs a CUDA device and the package bitsandbytes)."""
    seed: int = 0
    """Seed of the choice of pictures and controls; sent to the model too."""
    force: bool = runtime(False)
    """Use simgemma on other pictures than simulated ones too; its names then mean nothing."""
    allow_remote: bool = runtime(False)
    """endpoint: allow an address outside this machine; radiographs are then sent there."""
    again: bool = runtime(False)
    """Ask anew what has been answered before; both answers stay."""
    watch: bool = runtime(False)
    """Keep the model loaded and take requests from the app."""
    cost: bool = runtime(False)
    """Print what it would cost, and stop."""
    concurrency: int = runtime(8)
    """endpoint: requests in flight at each server."""
    timeout_seconds: float = runtime(120.0)
    """endpoint: longest wait for one reply."""
    batch: int | None = runtime(None)
    """medgemma: prompts a forward pass (default: 8; simgemma: 64)."""
    idle_minutes: float = runtime(30.0)
    """watch: stop after so many minutes without a request."""
    device: Literal["auto", "cuda", "mps", "cpu"] = runtime("auto")
    """medgemma: where to compute."""

    step = "name"
    makes = "names"

    def __post_init__(self) -> None:
        Sharded.__post_init__(self)
        check(self.shard is None or not (self.watch or self.again), "--shard does not go with --watch or --again")
        chosen = [flag for flag, on in (("--neurons", self.neurons is not None), ("--top", self.top is not None),
                                        ("--all", self.all)) if on]  # fmt: skip
        check(len(chosen) <= 1, f"{' and '.join(chosen)} exclude each other")
        check(len(chosen) == 1 or self.watch, "which neurons?", do="give --neurons 12,57, --top 200, --all or --watch")
        check(self.top is None or self.top >= 1, f"--top {self.top} must be at least 1")
        self.neuron_list()
        object.__setattr__(
            self, "endpoint", (self.endpoint,) if isinstance(self.endpoint, str) else self.endpoint or ()
        )
        check(bool(self.endpoint) or self.backend != "endpoint",
              "--backend endpoint and --endpoint ADDRESS go together")  # fmt: skip
        check(not self.endpoint or self.backend not in (*NO_MODEL, "medgemma"),
              "--backend endpoint and --endpoint ADDRESS go together")  # fmt: skip
        twice = next((one for one in self.endpoint if self.endpoint.count(one) > 1), None)
        check(twice is None, f"--endpoint {twice} is given twice")
        check(self.model is None or self.backend not in NO_MODEL,
              f"--model does not belong to --backend {self.backend}")  # fmt: skip
        check(self.namer != self.backend, f"--namer {self.namer} is what --backend does anyway", do="leave it out")
        check(not self.four_bit or self.backend == "medgemma", "--four-bit belongs to --backend medgemma")
        check(0 <= self.hard <= 1, f"--hard {self.hard} must lie in [0, 1]")
        check(self.hard == 0 or self.protocol == "strict", "--hard belongs to --protocol strict")
        check(self.against == "ordinary" or self.protocol == "strict", "--against hard belongs to --protocol strict")
        check(self.test == "detection" or self.pictures is None or self.pictures >= 5,
              f"--test {self.test} shows five pictures at once: --pictures must be at least 5")  # fmt: skip
        check(self.backend not in NO_MODEL or (self.test, self.against) == ("detection", "ordinary"),
              f"--backend {self.backend} looks at no picture: it is tested by detection alone, and compares nothing",
              do="choose another --backend")  # fmt: skip
        for name in ("pictures", "concurrency", "batch"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"--{name} {value} must be at least 1")
        for name in ("timeout_seconds", "idle_minutes"):
            check(getattr(self, name) > 0, f"--{name.replace('_', '-')} must be positive")

    def neuron_list(self) -> list[int]:
        """The neurons of --neurons in the given order without repeats; UserError when it is not a list of numbers."""
        return numbers(self.neurons)


@dataclass(frozen=True, kw_only=True)
class RunDemo(Command):
    """The simulated cohort, its encoder, an SAE, scores of raw and SAE, names of the best neurons."""

    images: int | None = None
    """Number of simulated pictures (default: the preset's)."""
    seed: int = 0
    """Seed of the simulation and of the SAE."""
    names: int = 24
    """Neurons that the labels and simgemma name; 0: none."""

    def __post_init__(self) -> None:
        check(self.names >= 0, f"--names {self.names} must be at least 0")


@dataclass(frozen=True, kw_only=True)
class RunPaper(Command):
    """The published study: CheXpert, MedCLIP-ResNet, ReLU SAE, scores of raw and SAE by the paper's protocol."""

    root: Path
    """CheXpert's folder."""
    encoder: str = "medclip-resnet"
    """Another encoder than the paper's, to try the whole way without MedCLIP's weights."""
    weights: Path | None = runtime(None)
    """Checkpoint of the encoder."""
    seeds: int | None = None
    """Trainings with different seeds (default: 3 where the cohort has at most 30,000 pictures, else 1)."""

    def __post_init__(self) -> None:
        check(self.seeds is None or self.seeds >= 1, f"--seeds {self.seeds} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Merge(Command):
    """Put together what commands with --shard 1/N ... N/N have made: `medsae merge` and the words of the step."""

    words: tyro.conf.Positional[tuple[str, ...]]
    """The step and its options, without --shard."""


@dataclass(frozen=True, kw_only=True)
class List(Command):
    """The artifacts, newest first."""

    kind: Literal["cohort", "embeddings", "sae", "scores", "names"] | None = None
    """Only this kind."""


@dataclass(frozen=True, kw_only=True)
class Show(Command):
    """One artifact: config, parents, versions, tables, hashes checked."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id."""


@dataclass(frozen=True, kw_only=True)
class Report(Command):
    """Figures, tables, contact sheets and a methods paragraph of scores as a paper has them, and one page of HTML."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id of the scores."""
    to: Path
    """Folder to make."""
    neurons: tuple[int, ...] = ()
    """Neurons to show with their radiographs; default: the strongest of each label."""
    versus: str | None = None
    """Scores to compare with; default: the other representation of the same embeddings."""


@dataclass(frozen=True, kw_only=True)
class ReadingCreate(Command):
    """Plan a reading: people take the detection test of names, on the page Read."""

    scores: str
    """Id (or unique beginning of the id) of the scores."""
    neurons: str | None = None
    """Comma-separated numbers of neurons (default: --top)."""
    top: int = 10
    """Without --neurons: so many of the named neurons, best accuracy first (where none has a name: strongest |rho|)."""
    images: str = "20+20"
    """Firing and silent images of a neuron, each of another patient."""
    names: Literal["own", "rival", "none", "readers"] = "own"
    """`own`: readers are shown the model's name. `rival`: another neuron's name too, in tasks of their own that look
    alike. `none`: readers name the neuron themselves, then are tested on their own name. `readers`: names that readers
    gave in the reading --of, and the model's, on the same images, in tasks that look alike."""
    of: str | None = None
    """With --names readers: the reading in which the names were given."""
    run: str | None = None
    """Run of names whose names and images are read (default: the newest)."""
    readers: str | None = None
    """Comma-separated names of readers, between whom the neurons are divided (default: whoever comes reads all)."""
    each: int = 2
    """With --readers: how many read every neuron."""
    title: str = ""
    """What the page calls it."""
    seed: int = 0
    """Seed of the choice of images and of who reads what."""

    step = "reading"
    makes = "readings"

    def __post_init__(self) -> None:
        check(self.top >= 1, f"--top {self.top} must be at least 1")
        check((self.of is None) == (self.names != "readers"), "--names readers and --of READING go together")
        self.sides()
        readers = self.reader_list()
        check(self.each >= 1, f"--each {self.each} must be at least 1")
        check(not readers or len(readers) >= self.each,
              f"--readers names {len(readers)}, and each neuron is to be read by --each {self.each}",
              do="name more readers, or give a smaller --each")  # fmt: skip
        self.neuron_list()

    def sides(self) -> tuple[int, int]:
        """Firing and silent images of a neuron."""
        words = [w.strip() for w in self.images.split("+")]
        good = len(words) == 2 and all(w.isascii() and w.isdigit() and 1 <= int(w) <= 1000 for w in words)
        check(good, f"--images {self.images!r} is not FIRING+SILENT", do="as in --images 20+20")
        return int(words[0]), int(words[1])

    def reader_list(self) -> list[str]:
        """The readers of --readers, as they are kept, without repeats."""
        return list(dict.fromkeys(" ".join(w.split()) for w in (self.readers or "").split(",") if w.strip()))

    def neuron_list(self) -> list[int]:
        """The neurons of --neurons in the given order without repeats."""
        return numbers(self.neurons)


@dataclass(frozen=True, kw_only=True)
class ReadingList(Command):
    """The readings there are, and how far their readers have come."""


@dataclass(frozen=True, kw_only=True)
class ReadingResults(Command):
    """What a reading came to: accuracies, agreement, times; every answer with --csv."""

    id: tyro.conf.Positional[str]
    """Id of the reading."""
    csv: Path | None = None
    """File to write every answer to."""


@dataclass(frozen=True, kw_only=True)
class Rename(Command):
    """Give an artifact a title, a description, or both; it stays what it is, and so does its id."""

    id: tyro.conf.Positional[str]
    """Id or unique beginning of the id."""
    title: tyro.conf.Positional[str | None] = None
    """What choosers call it; "" for as before anybody named it."""
    about: str | None = None
    """A description of any length."""
    archived: bool | None = None
    """Keep it, and leave it out of the choosers."""


@dataclass(frozen=True, kw_only=True)
class Remove(Command):
    """Move artifacts or jobs to the trash; `gc` empties it."""

    ids: tyro.conf.Positional[tuple[str, ...]]
    """Ids, or unique beginnings of ids."""
    with_dependents: bool = False
    """Also what was made from them."""
    restore: bool = False
    """Take them out of the trash instead."""

    def __post_init__(self) -> None:
        check(len(self.ids) > 0, "which artifacts?", do="give their ids; `medsae list` shows them")


@dataclass(frozen=True, kw_only=True)
class Collect(Command):
    """Show what can go for good: the trash, and what was begun and never finished. With --yes it goes."""

    yes: bool = False
    """Remove it; without, only the list."""
    unfinished: bool = True
    """Also interrupted artifacts (their finished shards are lost)."""


@dataclass(frozen=True, kw_only=True)
class App(Command):
    """The app in a browser, on this machine only. Settings of Streamlit can be given as its variables STREAMLIT_*."""

    port: int = 8501
    """Port of the web server."""

    def __post_init__(self) -> None:
        check(0 < self.port < 65536, f"--port {self.port} must lie in 1 .. 65535")


@dataclass(frozen=True, kw_only=True)
class Look(Command):
    """A picture of your own: which neurons fire on it, where, and how far it lies from the training images."""

    picture: tyro.conf.Positional[Path | None] = None
    """A JPEG, PNG, TIFF or DICOM file. It is read and not kept."""
    scores: str
    """Id (or unique beginning of the id) of the scores that know the neurons."""
    most: int = 20
    """Neurons that are told at most."""
    watch: bool = runtime(False)
    """Keep the models loaded and take pictures from the app."""
    idle_minutes: float = runtime(30.0)
    """watch: stop after so many minutes without a picture."""

    step = "look"

    def __post_init__(self) -> None:
        check((self.picture is None) == self.watch, "which picture?", do="give one file, or --watch")
        check(self.most >= 1, f"--most {self.most} must be at least 1")
        check(self.idle_minutes > 0, "--idle-minutes must be positive")


# --- options of what is registered elsewhere --------------------------------------------------------------------------


@cache
def joined(command: type, options: type | None) -> type:
    """The config class `command` with the fields of `options` (a frozen dataclass of an encoder or a backend) added.

    Such a field is like any other: on the command line, in the saved record, in the identity. ValueError where a field
    of `options` has the name of one of `command` (other than one that both inherit).
    """
    if options is None or options in command.__mro__:
        return command
    both = {f.name for cls in set(options.__mro__) & set(command.__mro__) - {object} for f in fields(cls)}
    taken = {f.name for f in fields(command)} & {f.name for f in fields(options)} - both
    if taken:
        raise ValueError(f"{options.__qualname__} repeats options of {command.__name__}: {', '.join(sorted(taken))}")

    def check_both(self: Any) -> None:
        for cls in (command, options):
            getattr(cls, "__post_init__", lambda _: None)(self)

    body = {"__post_init__": check_both, "__doc__": command.__doc__, "__module__": command.__module__}
    return dataclass(frozen=True, kw_only=True)(type(command.__name__, (options, command), body))


def options_of(config: Any, options: type | None) -> Any:
    """The own options of an encoder or a backend out of a joined config; None where it has none."""
    return None if options is None else options(**{f.name: getattr(config, f.name) for f in fields(options)})


# --- identity ---------------------------------------------------------------------------------------------------------


def numbers(neurons: str | None) -> list[int]:
    """The numbers of --neurons without repeats; UserError when it is not a list of numbers."""
    words = [w.strip() for w in (neurons or "").split(",") if w.strip()]
    bad = [w for w in words if not (w.isascii() and w.isdigit())]
    check(not bad and (neurons is None or bool(words)), f"--neurons {neurons!r} is not a list of neurons",
          do="give numbers separated by commas: --neurons 12,57")  # fmt: skip
    return list(dict.fromkeys(int(w) for w in words))


def check(condition: bool, what: str, where: object = None, do: str | None = None) -> None:
    """Raise UserError(what, where, do) unless `condition`."""
    if not condition:
        raise UserError(what, where, do)


def record(config: Any) -> dict[str, Any]:
    """The config without its runtime fields, as plain JSON values with sorted keys: what is saved and hashed.

    An `added` field at its default is left out: the question is the one that was asked before the field existed.
    """
    values = {
        f.name: _recorded(f, getattr(config, f.name))
        for f in fields(config)
        if not f.metadata.get("runtime") and not (f.metadata.get("added") and getattr(config, f.name) == f.default)
    }
    step = {k: getattr(config, k) for k in ("step", "source") if hasattr(config, k)}
    return json.loads(json.dumps({**step, **values}, sort_keys=True, default=str))


def _recorded(option: dataclasses.Field[Any], value: Any) -> Any:
    if option.metadata.get("repeated") and len(value) < 2:
        return value[0] if value else None
    return value


def identity(slug: str, config: Any, parents: list[str], inputs: dict[str, str]) -> str:
    """`slug` + 8 hex digits of sha256 over record, parents and the sha256 of outside files."""
    return identified(slug, record(config), parents, inputs)


def identified(slug: str, recorded: dict[str, Any], parents: list[str], inputs: dict[str, str]) -> str:
    """The same from a record as it was saved: an artifact's id can be checked against its manifest."""
    text = json.dumps([recorded, sorted(parents), inputs], sort_keys=True, separators=(",", ":"))
    return f"{slug}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def command_line(config: Any) -> list[str]:
    """The arguments after `python -m medsae` that give this config again (fields at their default are left out)."""
    words = {RunDemo: ["run", "demo"], RunPaper: ["run", "paper"], List: ["list"], Show: ["show"],
             ReadingCreate: ["reading", "create"]}.get(type(config))  # fmt: skip
    words = words or [config.step, *([config.source] if hasattr(config, "source") else [])]
    merges = getattr(config, "shard", None) == shards.MERGE
    words = ["merge", *words] if merges else words
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name == "shard" and merges:
            continue
        if f.default is not dataclasses.MISSING and value == f.default:
            continue
        flag = f.name.rstrip("_").replace("_", "-")
        if f.name in ("id", "picture"):
            words.append(str(value))
        elif isinstance(value, bool) and f.default is None:  # three values: said by name
            words += [f"--{flag}", str(value)]
        elif isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif f.metadata.get("repeated"):
            words += [word for one in value for word in (f"--{flag}", str(one))]
        else:
            words += [f"--{flag}", str(value)]
    return words
