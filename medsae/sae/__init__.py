"""Embedding -> neurons: sparse autoencoders, their gradients, their training. Knows no database and no artifacts."""
