"""The encoders that are built in: one light module a family, which registers it. Imports no torch."""
