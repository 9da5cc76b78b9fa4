"""Results that are made in one piece, as arrays that can be kept: as JSON, which keeps every digit of a float."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from medsae.scoring.auroc import Area
from medsae.scoring.best import Best
from medsae.scoring.matched import Matched
from medsae.scoring.measures import Value
from medsae.scoring.pieces import Arrays


def _written(value: Any) -> Arrays:
    return {"json": np.array(json.dumps(value, default=np.ndarray.tolist))}


def _read(arrays: Arrays) -> Any:
    return json.loads(str(arrays["json"]))


def kept_bests(best: Mapping[str, list[Best]]) -> Arrays:
    """The best neurons of each label or factor, by representation."""
    return _written({name: [asdict(one) for one in row] for name, row in best.items()})


def bests(arrays: Arrays) -> dict[str, list[Best]]:
    """What `kept_bests` was given."""
    return {
        name: [Best(**one | {side: Area(**one[side]) for side in ("other", "whole")}) for one in row]
        for name, row in _read(arrays).items()
    }


def kept_matched(matched: Matched | None) -> Arrays:
    """Both sides of the partnership of raw neurons and those of an SAE."""
    return _written(matched and asdict(matched))


def matched(arrays: Arrays) -> Matched | None:
    """What `kept_matched` was given."""
    found = _read(arrays)
    return Matched(*(_value(found[side]) for side in ("cut", "own"))) if found else None


def _value(found: dict[str, Any]) -> Value:
    drawn = found.pop("null_t")
    return Value(**found, null_t=None if drawn is None else np.array(drawn))
