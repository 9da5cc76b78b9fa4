"""Deletion by hand: how a region grows, what falls mean; parts of pictures replaced."""
# pyright: reportArgumentType=false

import numpy as np
import pytest

from medsae import geometry
from medsae.scoring.deletion import LEAST, deletion, grow, table_row
from medsae.scoring.draws import Patients
from medsae.steps import deletion as deletion_step
from medsae.steps import deletion_of_tokens, located, occlusion, squares


def test_a_region_grows_from_the_strongest_place_to_its_strongest_neighbour():
    value = np.array([[9.0, 1, 8], [2, 0, 7], [3, 4, 5]])
    every = np.ones((3, 3), bool)
    assert np.argwhere(grow(value, every, 1)).tolist() == [[0, 0]]
    # From 9 its neighbours are 1 and 2; then 3, 4, 5, 7, 8: the 8 is strong but not connected.
    assert np.argwhere(grow(value, every, 4)).tolist() == [[0, 0], [1, 0], [2, 0], [2, 1]]
    assert grow(value, every, 9).all() and grow(value, every, 99).sum() == 9
    allowed = every.copy()
    allowed[:, 0] = False
    assert np.argwhere(grow(value, allowed, 2)).tolist() == [[0, 2], [1, 2]]
    allowed[:, 1] = False
    assert grow(value, allowed, 5).sum() == 3, "no more are connected"
    assert not grow(value, every, 0).any() and not grow(value, ~every, 3).any()


def test_falls_of_ten_pictures_by_hand():
    fall = np.column_stack([np.linspace(0.5, 0.9, 10), np.full(10, 0.2), np.linspace(0, 0.1, 10)])
    code = np.array([0, 0, 1, 1, 2, 3, 4, 5, 6, 6])
    found = deletion(fall, Patients.of(code), draws=400, seed=2)
    assert (found.n, found.fall, found.other, found.random) == (10, *(pytest.approx(v) for v in (0.7, 0.2, 0.05)))
    assert found.minus_other == pytest.approx(0.5) and found.low < 0.7 < found.high
    # The other fall is the same everywhere, so the difference is as uncertain as the fall itself.
    assert found.minus_high - found.minus_low == pytest.approx(found.high - found.low, rel=0.2)
    assert table_row(found)["reason"] is None


def test_too_few_pictures_have_no_fall():
    row = table_row(deletion(np.zeros((LEAST - 1, 3)), Patients.of(np.arange(LEAST - 1))))
    assert row["fall"] is None and row["n"] == LEAST - 1 and "5 are needed" in str(row["reason"])


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (50, 50), (300, 200)], ids=str)
def test_a_picture_comes_back_from_its_square(shape):
    y, x = np.mgrid[: shape[0], : shape[1]]
    picture = (100 + 80 * np.sin(y / shape[0] * 3) * np.cos(x / shape[1] * 3)).astype(np.uint8)
    back = squares.off_square(squares.on_square(picture), shape)
    inner = (slice(3, -3), slice(3, -3))  # the black of the square reaches a little over the border
    assert back.shape == shape and np.abs(back[inner].astype(int) - picture[inner]).max() <= 6


def test_blocks_cover_their_part_of_the_picture():
    region = np.zeros((4, 4), bool)
    region[0, 0] = region[3, 2] = True
    found = squares.covered(region, (40, 20), 8)  # the square is 40 wide, the picture its middle half
    assert found.shape == (40, 20)
    assert found[:10].sum() == 0 and found[30:, 10:].all() and found[30:, :10].sum() == 0
    assert squares.inside((40, 20), 4, 8).tolist() == [[False, True, True, False]] * 4
    # A picture smaller than the network's input lies in the middle of it.
    small = squares.covered(np.eye(2, dtype=bool), (10, 10), 20)
    assert small[:5, :5].all() and small[5:, 5:].all() and not small[:5, 5:].any()


class Bright:
    """An encoder whose embedding is the mean of the picture's left and of its right half."""

    name, size, dim = "bright", 32, 2

    def prepare(self, picture):
        from PIL import Image

        return np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BOX), np.float32)[None]

    @property
    def module(self):
        import torch

        return lambda x: torch.stack([x[..., :16].mean((1, 2, 3)), x[..., 16:].mean((1, 2, 3))], 1)


def test_occlusion_finds_the_half_that_a_neuron_sees():
    from medsae.steps.eyes import Direction

    picture = np.full((64, 64), 50, np.uint8)
    picture[:, 32:] = 200
    encoder = Bright()
    occluder = occlusion.Occluder(encoder, False, np.full((squares.MEAN_SIDE,) * 2, 50.0))
    losses = occluder.losses(picture)
    assert losses.shape == (64, 2) and np.abs(losses[:, 0]).max() < 1e-4, "the left half is what it is filled with"
    right = losses[:, 1].reshape(8, 8)
    # A square of 16 x 16 px of the right half's 64 x 32: a 1 / 8 of it, each px 150 brighter than the filling.
    assert right[3, 6] == pytest.approx(150 / 8, rel=0.02) and np.abs(right[:, :3]).max() < 1e-4
    maps = occluder.maps(losses, Direction(np.array([[0, 2.0], [1, 0]], np.float32), np.zeros(2)), np.array([0]))
    assert maps.shape == (1, 64) and maps[0] == pytest.approx(2 * losses[:, 1])
    row = occluder.grid_row()
    assert (row["first_px"], row["step_px"], row["size_px"]) == (3.5, 8, 64) and "approximate" in row["how"]


@pytest.mark.parametrize("side", [64, 96, 320, 1000])
def test_a_square_is_a_quarter_of_the_picture_however_large_the_networks_input_is(side):
    encoder = Bright()
    encoder.size, seen = 518, []
    encoder.prepare = lambda p: seen.append(p) or np.zeros((1, 32, 32), np.float32)
    eye = occlusion.Occluded(occlusion.Occluder(encoder, False, np.full((squares.MEAN_SIDE,) * 2, 255.0)))
    eye.occluder.losses(np.zeros((side, side), np.uint8))
    inner = [p > 0 for p in seen[1:]][8 * 3 + 4]
    assert inner.mean() == pytest.approx(1 / 16, rel=0.05)
    y, x = np.argwhere(inner).mean(0)
    at = geometry.centres((8, 8), 3.5, 8, 64, inner.shape)
    assert (y, x) == (pytest.approx(at[0][3], abs=1), pytest.approx(at[1][4], abs=1)), "where maps are drawn"


def test_the_filling_is_the_mean_of_pictures_on_which_a_neuron_is_silent():
    pictures = [np.full((20, 20), v, np.uint8) for v in (10, 20, 90, 100)]
    silent = deletion_step.Silent.means(
        np.array([5, 7]), pictures, lambda some: np.array([[p.mean() > 50, p.mean() > 0] for p in some])
    )  # fmt: skip
    assert silent.of(5) == pytest.approx(15.0), "of the two dark ones"
    assert silent.of(7) == pytest.approx(55.0), "it is never silent: the mean of all"


class Quarters:
    """An encoder whose tokens are the means of the picture's quarters."""

    name, size, dim, token_dim, grid = "quarters", 8, 1, 1, (2, 2)

    def prepare(self, picture):
        return picture.reshape(2, 4, 2, 4).mean((1, 3)).astype(np.float32)[None]

    @property
    def token_module(self):
        return lambda x: x.reshape(len(x), 4, 1)


class Cut:
    """An SAE of two neurons of a token's brightness: it, and how dark it is; of which only the larger fires."""

    def pre_activations(self, x):
        return np.column_stack([x[:, 0] - 100, 100 - x[:, 0]])

    def encode(self, x):
        z = self.pre_activations(x)
        return np.where(z == z.max(1, keepdims=True), np.maximum(z, 0), 0)


def test_of_tokens_the_largest_token_falls_without_a_step():
    picture = np.full((8, 8), 10, np.uint8)
    picture[:4, 4:], picture[4:, :4] = 150, 90
    both = np.array([0, 1])
    tells = deletion_of_tokens.OfTokens(Quarters(), Cut(), "max", located.Cells((2, 2), 1.5, 4, 8))
    assert tells.maps(picture, both) == pytest.approx(np.array([[0, 50, 0, 0], [90, 0, 10, 90]]))
    dark = np.full((8, 8), 10, np.uint8)
    # Where nothing fires any more, the value is below 0: by how much the brightest token misses.
    assert tells.values([picture, dark], both) == pytest.approx(np.array([[50, 90], [-90, 90]]))
    assert tells.fires([picture, dark], both).tolist() == [[True, True], [False, True]]
    share = deletion_of_tokens.OfTokens(Quarters(), Cut(), "share", tells.places)
    assert share.values([picture], both) == pytest.approx(np.array([[0.25, 0.75]]))
    raw = deletion_of_tokens.OfTokens(Quarters(), None, "max", tells.places)
    assert raw.values([picture], both[:1]) == pytest.approx(np.array([[150]]))
