"""MedSAE Explorer: what each direction of a chest-radiograph encoder encodes, and whether one can believe it."""

__version__ = "0.1.0"
