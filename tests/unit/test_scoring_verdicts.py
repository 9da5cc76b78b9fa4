"""What localisation says by rule."""

import pytest

from medsae.scoring.verdicts import of_encoder, verdict


@pytest.mark.parametrize(
    "hit, low, place, p, said",
    [
        (0.9, 0.8, 0.3, 0.001, "follows"),
        (0.9, 0.8, 0.3, 0.05, "follows"),
        (0.9, 0.8, 0.3, 0.051, "place"),
        (0.9, 0.3, 0.3, 0.001, "no"),
        (0.1, 0.0, 0.3, 1.0, "no"),
        (None, None, None, None, "few"),
        (float("nan"), 0.1, 0.2, 0.3, "few"),
    ],
)
def test_the_rule(hit, low, place, p, said):
    assert verdict(hit, low, place, p) == said


@pytest.mark.parametrize(
    "each, said",
    [
        (["no", "follows"], "follows"),
        (["no", "place", "few"], "place"),
        (["few", "no"], "no"),
        (["few"], "few"),
        ([], "few"),
    ],
    ids=str,
)
def test_an_encoder_looks_where_any_of_its_representations_does(each, said):
    assert of_encoder(each) == said
