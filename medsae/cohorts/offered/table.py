"""Any table of one's own."""

from medsae.config import IngestTable
from medsae.plugins import Source, sources

sources.register(
    Source(
        name="table",
        label="A table of your own",
        help="CSV, JSON lines, Parquet or Excel with the paths of pictures and their labels.",
        load="medsae.cohorts.table:read_table",
        options=IngestTable,
        order=200,
    )
)
