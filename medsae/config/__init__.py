"""One frozen dataclass a step: the command line, the saved record and the identity of an artifact at once.

A field whose default is None is filled by the preset or protocol (`resolved`), so that the record never holds a
silent default. Fields marked `runtime` say how a step works, not what it makes (device, where the data lives): they
are on the command line, but not in the identity.
"""

from medsae.config.base import Command, OnCluster, Protocol, Scope, Sharded, added, check, numbers, runtime
from medsae.config.embed import Embed, Pool, Pooling
from medsae.config.exchange import RESEARCH_ONLY, ExportSae, ExportScores, ImportSae
from medsae.config.identities import command_line, identified, identity, record
from medsae.config.ingest import CHEXPERT_LABELS, FromFiles, IngestSimulated, IngestTable, Splitting
from medsae.config.joining import joined, options_of
from medsae.config.kept import Collect, Copy, List, Remove, Rename, Report, Show
from medsae.config.kinds import (
    KINDS,
    OPTIONS_OF_KINDS,
    BatchTopK,
    Gated,
    JumpRelu,
    KindName,
    Matryoshka,
    Relu,
    SaeKind,
    TopK,
)
from medsae.config.name import NO_MODEL, Name
from medsae.config.pairs import Pairs
from medsae.config.plan import Plan
from medsae.config.reading import ReadingCreate, ReadingList, ReadingResults
from medsae.config.runs import Merge, RunDemo, RunPaper
from medsae.config.score import ATTRIBUTES, Score
from medsae.config.seen import App, Look
from medsae.config.train import TRAIN_PRESETS, Train
