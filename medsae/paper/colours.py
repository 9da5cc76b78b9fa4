"""Colours of meaning, the same on every page, in every figure and in print."""

SAE, RAW, NULL, SECOND = "#3d93d4", "#d08129", "#8b94a1", "#9277d8"
"""SECOND: another representation of the same kind. At least 3:1 on both backgrounds."""
LIGHT = [[0.0, "#a8540b"], [0.25, "#dfa566"], [0.5, "#f7f7f5"], [0.75, "#6da3d3"], [1.0, "#14558f"]]
DARK = [[0.0, "#f0a657"], [0.25, "#8f5a20"], [0.5, "#12171e"], [0.75, "#25639b"], [1.0, "#7cc1f5"]]
"""Orange (against) to blue (with) through the background at 0: told apart by every common colour blindness."""
MARKS = (
    ("activation", "sae", "SAE activation"),
    ("preactivation", "sae-open", "SAE before the cut"),
    ("raw", "raw", "raw"),
    ("random", "null", "best of as many random directions"),
)
"""Column of a recovery table -> mark and what it is."""
