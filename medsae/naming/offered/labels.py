"""No model: the labels name and judge."""

from medsae.plugins import Backend, backends

backends.register(Backend(
    name="labels", label="labels (no model)", load="medsae.naming.backends.labels:make",
    help="no model: the best-correlated label is the name, the picture's labels are the judge",
))  # fmt: skip
