"""Gradients: by hand against autograd, the list of cells against the matrix, the screen against the truth."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import relu

from medsae import config
from medsae.sae import kinds
from medsae.sae.gradients import Dense, Question, Screen, SharedSearch, above, dense, shared
from medsae.sae.gradients.screen import where
from medsae.sae.kinds import common, matryoshka
from medsae.sae.kinds.common import listed_cells
from medsae.sae.training import initial_weights, on_all_cells

N, D, M = 24, 16, 40
KINDS = {
    "relu": config.Relu(l1=0.3),
    "weighted": config.Relu(l1=0.3, decoder_norm="weighted"),
    "topk": config.TopK(k=4),
    "batchtopk": config.BatchTopK(k=4),
    "jumprelu": config.JumpRelu(l0=0.2),
    "gated": config.Gated(l1=0.3),
    "matryoshka": config.Matryoshka(k=4),
}


def problem(options: config.SaeKind, bias: float, seed: int = 0, n: int = N) -> tuple[torch.Tensor, dict]:
    """Inputs of norm sqrt(d), and weights that are not special in any way; a larger `bias` lets fewer neurons fire."""
    generator = torch.Generator().manual_seed(seed)
    x_nd = torch.randn(n, D, generator=generator)
    kind = kinds.of(options)
    start = kinds.Start(D, M, images=N)
    w = initial_weights(kind, start, generator) | kind.memory(start)
    for name in ("W_enc", "b_enc", "W_dec", "b_pre", "r_mag", "b_mag"):
        if name in w:
            w[name] = w[name] + 0.1 * torch.randn(w[name].shape, generator=generator)
    w["b_enc"] -= bias
    w["W_enc"][3], w["b_enc"][3] = 0.0, -1.0  # never fires
    w["W_dec"][5] = 0.0  # fires, and says nothing
    if "log_threshold" in w:
        w["log_threshold"] = torch.full((M,), math.log(0.4))
        w["bandwidth"] = torch.tensor(0.5)
    return x_nd, w


class Step(torch.autograd.Function):
    """H(pre - theta) with the rectangle as pseudo-derivative for theta."""

    @staticmethod
    def forward(ctx, pre, theta, width):
        ctx.save_for_backward(pre, theta, width)
        return (pre > theta).float()

    @staticmethod
    def backward(ctx, g):  # type: ignore[override]
        pre, theta, width = ctx.saved_tensors
        return None, -(g * ((pre - theta).abs() < width / 2)).sum(0) / width, None


def reference_loss(options: config.SaeKind, x: torch.Tensor, w: dict) -> torch.Tensor:
    """The loss as the papers write it, for autograd."""
    n = len(x)
    pre = (x - w["b_pre"]) @ w["W_enc"].T + w["b_enc"]

    def error(z, w_dec=w["W_dec"], b=w["b_pre"]):
        return (z @ w_dec + b - x).square().sum() / n

    def aux(z):
        dead = w["silent"] + n > w["silent_limit"]
        dead &= ~(z > 0).any(0)
        if not dead.any():
            return 0.0
        left = (x - z @ w["W_dec"] - w["b_pre"]).detach()
        q = torch.where(dead, pre, -torch.inf)
        top = q.topk(min(D // 2, int(dead.sum())), dim=1)
        z_aux = torch.zeros_like(pre).scatter(1, top.indices, relu(top.values))
        return common.AUX_COEFFICIENT * (z_aux @ w["W_dec"] - left).square().sum() / n

    def batch_top(k):
        kth = pre.reshape(-1).topk(k * n).values[-1]
        return relu(pre) * (pre >= kth)

    match options:
        case config.Relu(l1=l1, decoder_norm="unit"):
            z = relu(pre)
            return error(z) + l1 * z.sum() / n
        case config.Relu(l1=l1):
            z = relu(pre)
            return error(z) + l1 * (z * w["W_dec"].norm(dim=1)).sum() / n
        case config.TopK(k=k):
            top = pre.topk(k, dim=1)
            z = torch.zeros_like(pre).scatter(1, top.indices, relu(top.values))
            return error(z) + aux(z)
        case config.BatchTopK(k=k):
            z = batch_top(k)
            return error(z) + aux(z)
        case config.JumpRelu(l0=l0):
            theta = w["log_threshold"].exp()
            on = Step.apply(pre, theta, w["bandwidth"])
            # dz/dtheta = -(theta / epsilon) K: the step's derivative times theta, not times pre.
            z = (pre - theta).detach() * on.detach() + (pre - pre.detach()) * on.detach() + theta.detach() * on
            return error(z) + l0 * on.sum() / n
        case config.Gated(l1=l1):
            linear = (x - w["b_pre"]) @ w["W_enc"].T
            gate = relu(linear + w["b_enc"])
            z = (gate > 0) * relu(w["r_mag"].exp() * linear + w["b_mag"])
            return error(z) + l1 * gate.sum() / n + error(gate, w["W_dec"].detach(), w["b_pre"].detach())
        case config.Matryoshka(k=k):
            z = batch_top(k)
            ends = [round(share * M) for share in matryoshka.SHARES]
            return torch.stack([error(z[:, :e], w["W_dec"][:e]) for e in ends]).mean() + aux(z)


def autograd(options, x_nd, w):
    trained = [k for k in w if w[k].is_floating_point() and k not in ("guess", "threshold", "bandwidth")]
    leaves = {k: v.clone().double().requires_grad_(k in trained) if v.is_floating_point() else v for k, v in w.items()}
    loss = reference_loss(options, x_nd.double(), leaves)
    loss.backward()
    zero = torch.zeros(())
    return loss.item(), {k: zero if (g := leaves[k].grad) is None else g.float() for k in trained}


def by_hand(options, x_nd, w, listed):
    kind, w, grads = kinds.of(options), {k: v.clone() for k, v in w.items()}, kinds.Gradients()
    with torch.no_grad():
        if listed:
            question = Question(w["W_enc"], kinds.pre_activation_bias(w), kind.floor(w))
            cells = Screen(len(x_nd), D, M, low_precision=True).cells(x_nd, question)
            step = kind.gradients(cells, x_nd, w, grads)
        else:
            step = on_all_cells(kind, x_nd, w, grads)
    assert step is not None
    return step, grads


@pytest.fixture(autouse=True, params=[1, 4], ids=["whole", "slices"])
def slices(request, monkeypatch):
    """A batch in one piece, and in four (or more, for kinds that hold several matrices)."""
    monkeypatch.setattr(dense, "CELLS_IN_CACHE", N * M // request.param)


@pytest.mark.parametrize("listed", [False, True], ids=["matrix", "list"])
@pytest.mark.parametrize("bias", [0.0, 1.0, 2.5, 50.0], ids=["half", "some", "few", "none"])
@pytest.mark.parametrize("name", KINDS)
def test_gradients_equal_autograd(name, bias, listed):
    options = KINDS[name]
    x_nd, w = problem(options, bias)
    loss, expected = autograd(options, x_nd, w)
    step, grads = by_hand(options, x_nd, w, listed)
    assert float(step.error + step.penalty) == pytest.approx(loss, rel=1e-5)
    assert set(grads) == set(expected)
    for key, value in expected.items():
        scale = max(float(value.abs().max()), 1e-6)
        assert float((grads[key] - value).abs().max()) / scale <= 1e-5, key
    if bias == 50.0:
        assert int(step.active) == 0


@pytest.mark.parametrize("listed", [False, True], ids=["matrix", "list"])
@pytest.mark.parametrize("name", ["topk", "batchtopk", "matryoshka"])
def test_dead_neurons_get_autograds_gradient(name, listed):
    options = KINDS[name]
    x_nd, w = problem(options, 0.0)
    w["b_enc"][20:30] -= 2.0
    w["silent"][20:30] = 10**6
    loss, expected = autograd(options, x_nd, w)
    step, grads = by_hand(options, x_nd, w, listed)
    assert float(step.error + step.penalty) == pytest.approx(loss, rel=1e-5)
    assert expected["W_dec"][20:30].abs().max() > 0
    for key, value in expected.items():
        assert float((grads[key] - value).abs().max() / value.abs().max()) <= 1e-5, key


def test_relu_by_hand():
    """d = 1, m = 2: pre = (2, -3), z = (2, 0), x^ = 2 * 0.5 = 1, L = (3 - 1)^2 + 0.1 * 2 = 4.2 of one image."""
    w = dict(W_enc=torch.tensor([[1.0], [-1.0]]), b_enc=torch.tensor([-1.0, 0.0]), b_pre=torch.zeros(1),
             W_dec=torch.tensor([[0.5], [1.0]]))  # fmt: skip
    x_nd = torch.tensor([[3.0]])
    grads = kinds.Gradients()
    step = kinds.of(config.Relu(l1=0.1)).gradients(Dense(x_nd @ w["W_enc"].T + w["b_enc"]), x_nd, w, grads)
    assert step is not None
    assert float(step.error) == pytest.approx(4.0)
    assert float(step.penalty) == pytest.approx(0.2)
    assert step.fired_m.tolist() == [True, False]
    # dL/dx^ = -4; dL/dz = -4 * 0.5 + 0.1 = -1.9; dL/dW_dec = -4 * 2; dL/dW_enc = -1.9 * 3; dL/db_pre = -4 + 1.9
    assert grads["W_dec"].flatten().tolist() == pytest.approx([-8.0, 0.0])
    assert grads["W_enc"].flatten().tolist() == pytest.approx([-5.7, 0.0])
    assert grads["b_enc"].tolist() == pytest.approx([-1.9, 0.0])
    assert grads["b_pre"].tolist() == pytest.approx([-2.1])


def test_the_guess_of_topk_is_never_seen():
    """A floor that hides cells of some image is refused; one that does not gives the same step."""
    options = KINDS["topk"]
    x_nd, w = problem(options, 0.0)
    _, full = by_hand(options, x_nd, w, listed=True)
    pre = torch.addmm(kinds.pre_activation_bias(w), x_nd, w["W_enc"].T)
    kth = pre.topk(4, dim=1).values[:, -1]
    for guess in (0.99 * kth.min(), kth.sort().values[2] + 1e-6):  # below all, and above what three images need
        w["guess"] = guess
        _, good = by_hand(options, x_nd, w, listed=True)
        for name, value in full.items():
            assert torch.equal(good[name], value)
    w["guess"] = kth.max()
    kind = kinds.of(options)
    question = Question(w["W_enc"], kinds.pre_activation_bias(w), kind.floor(w))
    cells = Screen(N, D, M, low_precision=True).cells(x_nd, question)
    grads = kinds.Gradients()
    assert kind.gradients(cells, x_nd, w, grads) is None and not grads


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-3, 1.0, 300.0]), low=st.booleans(),
       n=st.integers(1, 17), m=st.integers(1, 70), d=st.integers(1, 40))  # fmt: skip
def test_the_screen_loses_no_cell(seed, scale, low, n, m, d):
    """Against float64: every cell above its floor is found, none below is (but for fp32 rounding at the floor)."""
    generator = torch.Generator().manual_seed(seed)
    x, w = scale * torch.randn(n, d, generator=generator), torch.randn(m, d, generator=generator)
    bias, floor = torch.randn(m, generator=generator) * scale, torch.randn(m, generator=generator) * scale / 4
    cells = Screen(17, d, m, low).cells(x, Question(w, bias, floor))
    truth = x.double() @ w.double().T + bias.double()
    found = torch.zeros(n, m, dtype=torch.bool)
    found[cells.image, cells.column] = True
    close = (truth - floor).abs() <= 1e-5 * scale * math.sqrt(d)
    assert torch.equal(found | close, (truth > floor) | close)
    assert torch.allclose(cells.values.double(), truth[cells.image, cells.column], rtol=1e-5, atol=1e-5 * scale)


def test_low_precision_changes_no_bit():
    x_nd, w = problem(KINDS["relu"], 1.5, n=200)
    bias, floor = kinds.pre_activation_bias(w), torch.zeros(M)
    fast, slow = (Screen(200, D, M, low).cells(x_nd, Question(w["W_enc"], bias, floor)) for low in (True, False))
    assert len(fast.values) > 0
    assert torch.equal(fast.column, slow.column)
    assert torch.equal(fast.image, slow.image)
    assert torch.equal(fast.values, slow.values)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), low=st.booleans(), apart=st.sampled_from([0.0, 1e-4, 0.05]), n=st.integers(1, 40))
def test_a_shared_search_finds_what_each_finds_alone(seed, low, apart, n):
    """Encoders, biases and floors that differ: the same cells with the same bits, whoever searched."""
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.randn(n, D, generator=generator), torch.randn(M, D, generator=generator)
    screen, questions = Screen(40, D, M, low), []
    for _ in range(4):
        off, bias, floor = (torch.randn(size, generator=generator) for size in ((M, D), (M,), (M,)))
        questions.append(Question(w + apart * off, 0.2 * bias - 9, 0.2 * floor))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "CROWDED", 1.0)
        near = SharedSearch(screen).near(x, questions)
    assert near is not None
    for q in questions:
        alone, together = screen.cells(x, q), above(near, x, q)
        for name in ("image", "column", "values"):
            assert torch.equal(getattr(alone, name), getattr(together, name))


def test_a_shared_search_that_does_not_pay_is_left_for_a_while():
    x, w = torch.ones(8, D), torch.ones(M, D)
    search = SharedSearch(Screen(8, D, M, low_precision=False), patience=2)
    alike = [
        Question(w, torch.full((M,), bias), torch.zeros(M)) for bias in (-100.0, -D / 2)
    ]  # all cells of the second
    far = [Question(w, torch.full((M,), -100.0), torch.zeros(M))] * 2
    assert search.near(x, alike) is None
    assert [search.near(x, far) is None for _ in range(3)] == [True, True, False]
    assert search.near(x, alike) is None
    assert [search.near(x, far) is None for _ in range(4)] == [True] * 4
    found = search.near(x, far)
    assert found is not None and not len(found.image), "what is far below every floor is no candidate"


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), m=st.integers(1, 20), share=st.sampled_from([0.0, 0.1, 0.9]))
def test_list_and_matrix_do_the_same(seed, n, m, share):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(n, m, generator=generator)
    on = torch.rand(n, m, generator=generator) < share
    e, w, p = (torch.randn(size, 5, generator=generator) for size in (n, m, m))
    matrix, listed = Dense(values * on), listed_cells(Dense(values), on)

    def same(a, b):
        assert torch.allclose(a, b, atol=1e-5)

    same(listed.decode(listed.values, w), matrix.decode(matrix.values, w))
    same(listed.outer(listed.values, e), matrix.outer(matrix.values, e))
    same(listed.over_images(listed.values), matrix.over_images(matrix.values))
    same(listed.correlate(e, w), matrix.correlate(e, w)[on])
    same(listed.neuron(p[:, 0]), matrix.neuron(p[:, 0]).expand(n, m)[on])
    assert torch.equal(listed.columns(0, m // 2 + 1).values, values[:, : m // 2 + 1][on[:, : m // 2 + 1]])
    positive = (values > 0) & on
    k = 2
    if m >= k and positive.any():
        top = listed_cells(Dense(values), positive)
        expected = Dense(torch.where(positive, values, -torch.inf)).top_of_each(k) & positive
        assert torch.equal(top.top_of_each(k), expected[positive])
        expected = Dense(torch.where(positive, values, -torch.inf)).top_of_all(k) & positive
        assert torch.equal(top.top_of_all(k), expected[positive])


def test_where_of_any_size():
    for n, m in ((1, 1), (3, 5), (4, 16), (8, 8)):
        on = torch.rand(n, m, generator=torch.Generator().manual_seed(n)) < 0.3
        assert torch.equal(where(on), on.view(-1).nonzero().view(-1))
