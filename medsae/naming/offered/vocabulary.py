"""No model but the encoder's own text tower: the nearest term of a vocabulary names."""

from medsae.plugins import Backend, backends

backends.register(Backend(
    name="vocabulary", label="vocabulary (no model)", load="medsae.naming.backends.vocabulary:make",
    help="no model: the term nearest to the neuron's direction names, the encoder's own cosine judges (docs/words.md)",
))  # fmt: skip
