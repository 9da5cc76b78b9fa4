"""Trains simgemma, the small Gemma 3 with vision that names and judges on simulated radiographs: see `train.py`."""
