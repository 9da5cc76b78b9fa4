"""Names that a neuron's own name is held against: another neuron's, and a random description."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from medsae.naming import prompts
from medsae.naming.result import Control


def shuffled(
    neuron: int, own: str, named: Mapping[int, tuple[str, str]], others: Set[int], seed: int
) -> Control | None:
    """A name of `named` (neuron -> concept, description) among `others` that says something else than the concept
    `own`; None where all say the same."""
    key = prompts.group_key(own)
    found = sorted(others - {neuron})
    for i in np.random.default_rng([seed, neuron, 1]).permutation(len(found)):
        concept, description = named[found[i]]
        if prompts.group_key(concept) != key:
            return concept, description, found[i]
    return None


def borrowed(own: str, name: tuple[str, str] | None) -> Control | None:
    """`name` (concept, description) as a control while no other neuron is named; None where it says what `own` says."""
    if name is None or prompts.group_key(name[0]) == prompts.group_key(own):
        return None
    return name[0], name[1], None


def random(neuron: int, own: str, seed: int) -> Control:
    """A description that has nothing to do with any neuron, and does not say what the concept `own` says."""
    choices = [c for c in prompts.RANDOM_CONCEPTS if prompts.group_key(c[0]) != prompts.group_key(own)]
    concept, description = choices[np.random.default_rng([seed, neuron, 2]).integers(len(choices))]
    return concept, description, None
