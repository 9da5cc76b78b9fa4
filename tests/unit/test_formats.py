"""SAEs of other programs in and out: by hand-written formulas always, by the libraries' own forward pass where they are
installed (sae-lens, dictionary-learning, overcomplete, eai-sparsify, saev 0.1)."""

import argparse
import json
import math

import numpy as np
import pytest
import torch

from medsae import config, formats
from medsae.formats.plain import Plain
from medsae.plugins import formats as registry
from medsae.progress import UserError
from medsae.sae import kinds
from medsae.sae.model import Sae
from medsae.sae.normalise import Normalisation
from medsae.sae.untrained import untrained
from medsae.steps.exchange import plain_of, sae_of

D, M, N = 12, 40, 30
KINDS = {
    "relu": config.Relu(l1=0.1, decoder_norm="weighted"), "topk": config.TopK(k=4), "batchtopk": config.BatchTopK(k=4),
    "jumprelu": config.JumpRelu(l0=0.1), "gated": config.Gated(l1=0.1), "matryoshka": config.Matryoshka(k=4),
}  # fmt: skip
HOLDS = {
    "saelens": set(KINDS), "dictionary_learning": set(KINDS), "saev": {"relu", "topk", "batchtopk", "matryoshka"},
    "overcomplete": set(KINDS) - {"gated"}, "sparsify": {"topk"},
}  # fmt: skip
PAIRS = [(name, kind) for name, kinds_ in HOLDS.items() for kind in KINDS if kind in kinds_]


def ours(name: str, seed: int = 0) -> Sae:
    """An SAE of random weights, biases, thresholds and normalisation."""
    random = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=random)  # noqa: E731
    kind = KINDS[name]
    start = kinds.Start(D, M, images=0)
    weights = {"W_enc": draw(M, D) / 6, "b_enc": 0.3 * draw(M), "W_dec": draw(M, D) / 6, "b_pre": 0.5 * draw(D)}
    weights |= kinds.of(kind).start(start) | kinds.of(kind).memory(start)
    own = {
        "threshold": torch.tensor(0.9),
        "log_threshold": 0.3 * draw(M),
        "r_mag": 0.2 * draw(M),
        "b_mag": 0.2 * draw(M),
    }
    weights |= {k: v for k, v in own.items() if k in weights}
    return Sae(kind, weights, Normalisation(draw(D).numpy(), 1.7))


def embeddings() -> np.ndarray:
    return np.random.default_rng(0).normal(0.5, 1.2, (N, D)).astype(np.float32)


def computed(p: Plain, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """z and x^ by the formulas of `Plain`, written again."""
    pre = (x - p.b_dec_d if p.subtract else x) @ p.w_enc_md.T + p.b_enc_m
    z = pre.clamp(min=0)
    if p.kind == "topk":
        kept = torch.zeros_like(z).scatter_(1, pre.topk(p.k).indices, 1)
        z = z * kept
    if p.kind == "jumprelu":
        z = pre * (pre > p.threshold_m)
    if p.kind == "gated":
        z = (pre > 0) * ((pre - p.b_enc_m) * p.r_mag_m.exp() + p.b_mag_m).clamp(min=0)
    return z, z @ p.w_dec_md + p.b_dec_d


@pytest.mark.parametrize("name", KINDS)
def test_plain_is_the_same_sae_without_a_normalisation(name):
    sae, x = ours(name), embeddings()
    z, x_hat = computed(plain_of(sae), torch.from_numpy(x))
    assert np.abs(z.numpy() - sae.encode(x)).max() < 1e-5 and (z > 0).any()
    assert np.abs(x_hat.numpy() - sae.decode(sae.encode(x))).max() < 1e-5
    back = sae_of(plain_of(sae))
    assert np.abs(back.encode(x) - sae.encode(x)).max() < 1e-5
    assert np.abs(back.decode(back.encode(x)) - sae.decode(sae.encode(x))).max() < 1e-5


@pytest.mark.parametrize("subtract", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_folding_the_subtraction_changes_nothing(name, subtract):
    plain, x = plain_of(ours(name)), torch.from_numpy(embeddings())
    for a, b in zip(computed(plain.folded(subtract), x), computed(plain, x), strict=True):
        assert (a - b).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "kind"), PAIRS)
def test_out_and_in_again(tmp_path, name, kind):
    sae, x = ours(kind), embeddings()
    formats.write_folder(name, plain_of(sae), {"who": "a test"}, tmp_path)
    back, origin = formats.read(name, tmp_path)
    z, x_hat = computed(back, torch.from_numpy(x))
    assert np.abs(z.numpy() - sae.encode(x)).max() < 1e-5
    assert np.abs(x_hat.numpy() - sae.decode(sae.encode(x))).max() < 1e-5
    assert origin["format"] == name and len(origin["sha256"]) == 64
    again = sae_of(back)
    assert np.abs(again.encode(x) - sae.encode(x)).max() < 1e-5


@pytest.mark.parametrize("name", sorted(HOLDS))
def test_what_a_format_cannot_hold_is_said(tmp_path, name):
    for kind in set(KINDS) - HOLDS[name]:
        with pytest.raises(UserError, match="choose --format saelens"):
            formats.write_folder(name, plain_of(ours(kind)), {}, tmp_path)
    with pytest.raises(UserError, match="read only"):
        formats.write_folder("gemma_scope", plain_of(ours("jumprelu")), {}, tmp_path)


# --- the libraries themselves -----------------------------------------------------------------------------------------


def theirs_saelens(folder):
    pytest.importorskip("sae_lens")
    from sae_lens import SAE

    sae = SAE.load_from_disk(folder)
    return lambda x: (sae.encode(x), sae.decode(sae.encode(x)))


def theirs_dictionary_learning(folder):
    dictionary = pytest.importorskip("dictionary_learning.dictionary")
    top, batch = (pytest.importorskip(f"dictionary_learning.trainers.{n}") for n in ("top_k", "batch_top_k"))
    name = json.loads((folder / "config.json").read_text())["trainer"]["dict_class"]
    cls = next(getattr(m, name) for m in (dictionary, top, batch) if hasattr(m, name))
    options = {"normalize_decoder": False} if name == "AutoEncoder" else {}
    sae = cls.from_pretrained(str(folder / "ae.pt"), **options)
    return lambda x: (sae.encode(x), sae.decode(sae.encode(x)))


def theirs_overcomplete(folder):
    module = pytest.importorskip("overcomplete.sae")
    from safetensors.torch import load_file

    told = json.loads((folder / "config.json").read_text())
    options = {"top_k": told["top_k"]} if "top_k" in told else {}
    sae = getattr(module, told["class"])(told["input_shape"], told["nb_concepts"], encoder_module="linear",
                                         dictionary_params=told["dictionary_params"], **options)  # fmt: skip
    missing = sae.load_state_dict(load_file(folder / "sae.safetensors"), strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"dictionary.multiplier"}
    sae.eval()
    return lambda x: (sae.encode(x)[1], sae.decode(sae.encode(x)[1]) + x.new_tensor(told["b_dec"]))


def theirs_sparsify(folder):
    coder = pytest.importorskip("sparsify.sparse_coder").SparseCoder.load_from_disk(folder)

    def forward(x):
        out = coder.encode(x)
        return torch.zeros(len(x), M).scatter(1, out.top_indices, out.top_acts), coder.decode(
            out.top_acts, out.top_indices
        )

    return forward


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "kind"), [pair for pair in PAIRS if pair[0] != "saev"])
def test_out_is_what_the_library_computes(tmp_path, name, kind):
    sae, x = ours(kind), embeddings()
    formats.write_folder(name, plain_of(sae), {}, tmp_path)
    with torch.no_grad():
        z, x_hat = globals()[f"theirs_{name}"](tmp_path)(torch.from_numpy(x))
    assert np.abs(z.numpy() - sae.encode(x)).max() < 1e-5
    assert np.abs(x_hat.numpy() - sae.decode(sae.encode(x))).max() < 1e-5


# --- meanings that need care ------------------------------------------------------------------------------------------


def saev_file(path, told, tensors):
    with path.open("wb") as file:
        file.write((json.dumps(told) + "\n").encode())
        torch.save(tensors, file)


def test_saev_before_and_after_september_2025(tmp_path):
    p = plain_of(ours("relu"))
    tensors = {"W_enc": p.w_enc_md.T.contiguous(), "b_enc": p.b_enc_m, "W_dec": p.w_dec_md, "b_dec": p.b_dec_d}
    saev_file(tmp_path / "sae.pt", {"d_vit": D, "exp_factor": 3, "sparsity_coeff": 1e-3}, tensors)
    assert formats.read("saev", tmp_path)[0].subtract
    new = {"schema": 2, "cfg": {"d_vit": D, "activation": {"cls": "Relu", "params": {}}}}
    saev_file(tmp_path / "sae.pt", new, tensors)
    assert not formats.read("saev", tmp_path)[0].subtract
    saev_file(tmp_path / "sae.pt", {"schema": 1, "cls": "TopK", "cfg": {"d_vit": D, "top_k": 4}}, tensors)
    with pytest.raises(UserError, match="--subtract-bias"):
        formats.read("saev", tmp_path)
    found = formats.read("saev", tmp_path, subtract_bias=True)[0]
    assert found.subtract and found.kind == "topk" and found.k == 4


@pytest.mark.filterwarnings("ignore")
def test_saev_of_2025_february_is_what_the_library_computes(tmp_path):
    nn = pytest.importorskip("saev.nn")
    from saev.config import SparseAutoencoder

    sae = nn.SparseAutoencoder(SparseAutoencoder(d_vit=D, exp_factor=3))
    torch.nn.init.normal_(sae.b_dec)
    torch.nn.init.normal_(sae.b_enc)
    nn.dump(str(tmp_path / "x" / "sae.pt"), sae)
    x = torch.from_numpy(embeddings())
    with torch.no_grad():
        x_hat, z, _ = sae(x)
    found = computed(formats.read("saev", tmp_path / "x")[0], x)
    assert (found[0] - z).abs().max() < 1e-5 and (found[1] - x_hat).abs().max() < 1e-5


def test_saelens_with_decoder_norms_in_the_activations(tmp_path):
    from safetensors.torch import save_file

    p = plain_of(ours("topk"))
    tensors = {"W_enc": p.w_enc_md.T.contiguous(), "b_enc": p.b_enc_m, "W_dec": p.w_dec_md, "b_dec": p.b_dec_d}
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    told = {"architecture": "topk", "k": 4, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": True}
    (tmp_path / "cfg.json").write_text(json.dumps(told))
    x = torch.from_numpy(embeddings())
    norm = p.w_dec_md.norm(dim=1)
    pre = ((x - p.b_dec_d) @ p.w_enc_md.T + p.b_enc_m) * norm
    z = torch.zeros_like(pre).scatter_(1, pre.topk(4).indices, pre.topk(4).values.relu())
    found = computed(formats.read("saelens", tmp_path)[0], x)
    assert (found[0] - z).abs().max() < 1e-5 and (found[1] - (z / norm @ p.w_dec_md + p.b_dec_d)).abs().max() < 1e-5


def test_gemma_scope_1_and_2(tmp_path):
    from safetensors.torch import save_file

    p = plain_of(ours("jumprelu"))
    arrays = {
        "W_enc": p.w_enc_md.T,
        "b_enc": p.b_enc_m,
        "W_dec": p.w_dec_md,
        "b_dec": p.b_dec_d,
        "threshold": p.threshold_m,
    }
    (tmp_path / "one").mkdir()
    np.savez(tmp_path / "one" / "params.npz", **{k: v.numpy() for k, v in arrays.items()})
    (tmp_path / "two").mkdir()
    save_file({k.lower(): v.contiguous() for k, v in arrays.items()}, tmp_path / "two" / "params.safetensors")
    x = torch.from_numpy(embeddings())
    pre = x @ p.w_enc_md.T + p.b_enc_m
    z = pre * (pre > p.threshold_m)
    for name in ("one", "two"):
        found = computed(formats.read("gemma_scope", tmp_path / name)[0], x)
        assert (found[0] - z).abs().max() < 1e-5
        assert (found[1] - (z @ p.w_dec_md + p.b_dec_d)).abs().max() < 1e-5


def test_overcomplete_as_it_saves_itself(tmp_path):
    p = plain_of(ours("jumprelu"))
    state = {"encoder.final_block.0.weight": p.w_enc_md, "encoder.final_block.0.bias": p.b_enc_m,
             "dictionary._weights": p.w_dec_md, "dictionary.multiplier": torch.tensor(0.4), "thresholds": torch.zeros(M)}  # fmt: skip
    torch.save(state, tmp_path / "sae.pt")
    (tmp_path / "config.json").write_text('{"class": "JumpSAE"}')
    found = formats.read("overcomplete", tmp_path)[0]
    unit = p.w_dec_md / p.w_dec_md.norm(dim=1, keepdim=True)
    assert (found.w_dec_md - unit * math.exp(0.4)).abs().max() < 1e-5
    assert float(found.threshold_m[0]) == 1.0 and not found.subtract


# --- bad input --------------------------------------------------------------------------------------------------------


def written(folder, name="saelens", kind="relu"):
    formats.write_folder(name, plain_of(ours(kind)), {}, folder)
    return folder


def test_what_is_wrong_is_said(tmp_path):
    from safetensors.torch import load_file, save_file

    folder = written(tmp_path / "a") if (tmp_path / "a").mkdir() is None else None
    path = folder / "sae_weights.safetensors"
    right = load_file(path)
    told = json.loads((folder / "cfg.json").read_text())

    def refused(what, tensors=None, **changed):
        save_file({k: v.contiguous() for k, v in (tensors or right).items()}, path)
        (folder / "cfg.json").write_text(json.dumps(told | changed))
        with pytest.raises(UserError, match=what):
            formats.read("saelens", folder)

    refused("transposed weights are refused", right | {"W_dec": right["W_dec"].T})
    refused("transposed weights are refused", right | {"W_enc": right["W_enc"].T})
    refused("'b_enc' is missing", {k: v for k, v in right.items() if k != "b_enc"})
    refused("b_dec holds NaN", right | {"b_dec": right["b_dec"] * math.nan})
    refused("'matching_pursuit' cannot be computed", architecture="matching_pursuit")
    refused("normalize_activations 'layer_norm'", normalize_activations="layer_norm")
    refused("k = 99 does not fit", architecture="topk", k=99)
    refused("activation 'tanh-relu' of SAELens", activation_fn_str="tanh-relu")
    refused("a transcoder", is_transcoder=True)
    refused("a transcoder", hook_name="blocks.3.ln2", hook_name_out="blocks.3.mlp_out")
    refused("a transcoder", right | {"b_dec_out": right["b_dec"] + 1})
    refused("a transcoder", right | {"affine_skip_connection": right["W_dec"] + 1})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="the weights cannot be read"):
        formats.read("saelens", folder)
    with pytest.raises(UserError, match=r"(?s)sae_weights.safetensors is missing.*give the folder that holds it: .*/a"):
        formats.read("saelens", tmp_path)
    with pytest.raises(UserError, match=r"(?s)no format 'odd'.*saelens"):
        formats.read("odd", folder)


def test_dictionary_learning_as_it_was_in_2024(tmp_path):
    """k in the config alone, and steps of the training in a folder below it."""
    folder = tmp_path / "trainer_0"
    folder.mkdir()
    plain = plain_of(ours("topk"))
    formats.write_folder("dictionary_learning", plain, {}, folder)
    state = torch.load(folder / "ae.pt", weights_only=True)
    state = {name: value for name, value in state.items() if name not in ("k", "threshold")}
    torch.save(state, folder / "ae.pt")
    assert formats.read("dictionary_learning", folder)[0].k == plain.k
    (folder / "checkpoints").mkdir()
    torch.save(state, folder / "checkpoints/ae_100.pt")
    assert formats.read("dictionary_learning", folder / "checkpoints/ae_100.pt")[0].k == plain.k


def test_a_signed_top_k_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    folder = written(tmp_path / "a", "sparsify", "topk")
    told = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(told | {"signed": True}))
    with pytest.raises(UserError, match="a signed top-k"):
        formats.read("sparsify", folder)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    import pickle

    class Runs:
        def __reduce__(self):
            return print, ("ran",)

    (tmp_path / "ae.pt").write_bytes(pickle.dumps(Runs()))
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "AutoEncoder"}}')
    with pytest.raises(UserError, match="the weights cannot be read"):
        formats.read("dictionary_learning", tmp_path)


@pytest.mark.parametrize("around, before", [("state_dict", ""), ("", "module."), ("model", "_orig_mod.sae.")])
def test_what_a_training_loop_puts_around_an_sae_is_undone(tmp_path, around, before):
    folder = written(tmp_path, "dictionary_learning")
    path = folder / "ae.pt"
    right = formats.read("dictionary_learning", folder)[0]
    held = {before + name: tensor for name, tensor in torch.load(path, weights_only=True).items()}
    torch.save({around: held, "step": 7, "args": argparse.Namespace(k=8)} if around else held, path)
    wrapped = formats.read("dictionary_learning", folder)[0]
    assert torch.equal(wrapped.w_dec_md, right.w_dec_md) and torch.equal(wrapped.w_enc_md, right.w_enc_md)


def test_a_pointer_in_place_of_the_weights_says_so(tmp_path):
    folder = written(tmp_path)
    (folder / "sae_weights.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match="Git LFS pointer"):
        formats.read("saelens", folder)


def test_every_format_is_registered():
    assert set(registry.all()) == {*HOLDS, "gemma_scope"}


# --- the untrained control --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jumprelu", "relu", "batchtopk", "topk", "gated", "matryoshka"])
def test_an_untrained_control_keeps_everything_but_the_directions(kind):
    trained = ours(kind)
    x_nd = np.random.default_rng(1).normal(0.3, 1, (2000, trained.d)).astype(np.float32)
    control = untrained(trained, x_nd, seed=3)
    for name in ("W_enc", "W_dec"):
        norms = [sae.weights[name].norm(dim=1).numpy() for sae in (trained, control)]
        assert np.allclose(*norms, rtol=1e-5)
        assert np.abs(np.sum([(trained.weights[name][i] / norms[0][i] * control.weights[name][i] / norms[1][i]).sum()
                              for i in range(trained.m)])) < 0.5 * trained.m  # fmt: skip
    fires = [(sae.encode(x_nd) > 0).mean(0) for sae in (trained, control)]
    assert abs(fires[0].mean() - fires[1].mean()) < 0.01
    if kind != "topk":
        assert np.abs(fires[0] - fires[1]).max() < 2e-3
    assert not np.array_equal(untrained(trained, x_nd, seed=4).weights["W_dec"], control.weights["W_dec"])
