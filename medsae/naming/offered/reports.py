"""No model: the reports name and judge."""

from medsae.plugins import Backend, backends

backends.register(Backend(
    name="reports", label="reports (no model)", load="medsae.naming.backends.reports:make",
    help="no model: the phrase most enriched in the reports of firing pictures names, other patients' reports judge",
))  # fmt: skip
