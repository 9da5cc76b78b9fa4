"""An embedding is the sum of its cells, and the cells lie where they are said to lie."""

import numpy as np
import pytest
import torch

from medsae.encoders import cells, load_encoder, resnet, swin
from medsae.encoders.medclip import MedClip, ResNetTower, ViTTower


def medclip(name):
    """MedCLIP with random weights, as it computes: BatchNorm folded, one grey channel."""
    torch.manual_seed(0)
    tower = ResNetTower() if name == "medclip-resnet" else ViTTower()
    for layer in tower.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_var, 0.5, 1.5)
            torch.nn.init.normal_(layer.running_mean, 0, 0.1)
    if isinstance(tower, ResNetTower):
        resnet.for_inference(tower.model.eval())
    else:
        swin.for_inference(tower.model.eval())
    return MedClip(name, tower.eval(), "0")


@pytest.fixture(scope="module", params=["simclip", "efficientnet-lite0", "medclip-resnet", "medclip-vit"])
def encoder(request, tmp_path_factory):
    if request.param.startswith("medclip"):
        return medclip(request.param)
    return load_encoder(request.param, None, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pixels(encoder):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (3, 9, 9)).astype(np.uint8)
    pictures = [np.kron(part, np.ones((30, 30), np.uint8)) for part in coarse]
    return torch.from_numpy(np.stack([encoder.prepare(p) for p in pictures]))


def test_the_cells_add_up_to_the_embedding(encoder, pixels):
    parts_of = cells.of(encoder)
    with torch.inference_mode():
        parts, constant = parts_of(pixels)
        whole = encoder.module(pixels)
    assert parts.shape == (3, parts_of.grid[0] * parts_of.grid[1], encoder.dim)
    scale = float(whole.abs().max())
    assert float((parts.sum(1) + constant - whole).abs().max()) < 1e-5 * max(1, scale)


def test_no_cells_for_a_network_of_another_form(encoder):
    class Other:
        module = torch.nn.Linear(2, 2)

    assert cells.of(Other()) is None


@pytest.mark.long
def test_a_cell_lies_where_its_gradient_lies(encoder, pixels):
    """The centre of (d cell / d pixels)^2, averaged over inner cells of both axes, against first_px + r * step_px.

    Squared, because the far pixels that a cell barely sees are many; the pictures and the directions are fixed.
    """
    if encoder.name == "medclip-vit":
        pytest.skip("every token of a transformer sees the whole input: its gradient has no centre of its own")
    parts_of = cells.of(encoder)
    rows, columns = parts_of.grid
    x = pixels.clone().requires_grad_()
    parts = parts_of(x)[0].reshape(len(x), rows, columns, -1)
    generator = torch.Generator().manual_seed(0)
    squared = {}
    for r in range(2, rows - 2):
        for c in range(2, columns - 2):
            of_cell = parts[:, r, c] * torch.randn(parts.shape[-1], generator=generator)
            squared[r, c] = torch.autograd.grad(of_cell.sum(), x, retain_graph=True)[0].square().sum((0, 1))
    off = []
    for at in range(2, rows - 2):
        down = sum(g.sum(1) for (r, _), g in squared.items() if r == at)
        across = sum(g.sum(0) for (_, c), g in squared.items() if c == at)
        for profile in (down, across):
            centre = float((profile * torch.arange(len(profile))).sum() / profile.sum())
            off.append(centre - (parts_of.first_px + at * parts_of.step_px))
    assert abs(np.mean(off)) < 0.2 * parts_of.step_px, off
