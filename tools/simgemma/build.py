"""Puts a Gemma 3 together from transformers' own classes: tokenizer, processor, language part, and a trained tower."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Gemma3ForConditionalGeneration

from medsae.naming import prompts
from tools.simgemma import gemma, words
from tools.simgemma.tower import Tower

_FORMS = (
    prompts.SYSTEM, prompts.EXPLAIN_STRICT, prompts.EXPLAIN_PAPER, prompts.EXPLAIN_AGAINST, prompts.REPAIR_EXPLAIN,
    prompts.JUDGE_STRICT, prompts.REPAIR_JUDGE, prompts.INTRUDER, prompts.RANK, prompts.REPAIR_CHOICE,
    prompts.JUDGE_PAPER, prompts.REPAIR_JUDGE_PAPER,
)  # fmt: skip


@dataclass(frozen=True)
class TextSettings:
    """The language part."""

    width: int = 128
    layers: int = 3
    mlp: int = 512
    heads: int = 4
    key_values: int = 2
    head_width: int = 32
    vocabulary: int = 2_000
    """Words and parts of words; sentences of the prompts come on top."""


def answer(concept: str, description: str) -> str:
    """A name as the model writes it."""
    return json.dumps({"concept": concept, "description": description})


def sentences() -> list[str]:
    """The fixed pieces of the prompts, cut at sentences: each becomes one token, which makes the model quick. A piece
    of which a word was changed is read word by word, as the model has learned too."""
    pieces: list[str] = []
    for form in _FORMS:
        for fixed in re.split(r"\{[a-z]+\}", form.replace("{{", "\0").replace("}}", "\1")):
            text = fixed.replace("\0", "{").replace("\1", "}")
            pieces += [piece for piece in re.split(r"(?<=[.?:])(?=\s)", text) if len(piece) > 8]
    return list(dict.fromkeys(pieces))


def tokenizer(settings: TextSettings) -> Any:
    """Gemma's tokenizer class with a vocabulary of radiology's words, digits and bytes."""
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    raw.normalizer = normalizers.Replace(" ", "▁")  # pyright: ignore[reportAttributeAccessIssue]
    cut = Regex(r"▁?[A-Za-z]+|[0-9]|▁?[^A-Za-z0-9▁\n]+|\n+|▁")
    raw.pre_tokenizer = pre_tokenizers.Split(cut, "isolated")  # pyright: ignore[reportAttributeAccessIssue]
    texts = [*_FORMS, *words.corpus(), "Yes", "No", "user\n", "model\n", "0123456789", "[1, 0, 0]", '{"answer": 1}']
    texts += [answer(text, "a") for text in words.corpus()]
    texts += [text for pair in prompts.RANDOM_CONCEPTS for text in pair]
    trainer = trainers.BpeTrainer(
        vocab_size=settings.vocabulary, special_tokens=[*gemma.SPECIAL, *gemma.BYTES],
        show_progress=False, min_frequency=2,
    )  # fmt: skip
    raw.train_from_iterator(texts * 3, trainer)
    made = gemma.tokenizer(raw)
    whole = [*sentences(), '{"concept": "', '", "description": "', '"}', '{"answer": ']
    made.add_tokens([AddedToken(piece, normalized=False, lstrip=False, rstrip=False) for piece in whole])
    return made


@torch.no_grad()
def evidence(tower: Tower, tokens: torch.Tensor, width: int) -> torch.Tensor:
    """[tower's text width, width]: carries image tokens over to a language part, one coordinate for each factor: the
    evidence for it as the tower's head reads it, with a standard deviation of 1 over `tokens` [n, tokens, text width].
    Coordinates beyond the factors are 0. A better tower can so be put before the same language part."""
    read = tower.head.weight.T
    across = torch.zeros(len(read), width)
    across[:, : read.shape[1]] = read / (tokens.flatten(0, 1) @ read).std(0).clamp(min=1e-6)
    return across


def build(tower: Tower, across: torch.Tensor, settings: TextSettings, seed: int) -> tuple[Any, Any]:
    """(model, processor): the tower's weights, and a language part that knows nothing yet. across: see `evidence`."""
    made, s = tokenizer(settings), settings
    side = tower.settings.side**2
    processor = gemma.processor(made, tower.config["image_size"], side)
    text = dict(
        hidden_size=s.width, intermediate_size=s.mlp, num_hidden_layers=s.layers, num_attention_heads=s.heads,
        num_key_value_heads=s.key_values, head_dim=s.head_width, query_pre_attn_scalar=s.head_width,
        sliding_window=2048, layer_types=["sliding_attention"] * (s.layers - 1) + ["full_attention"],
    )  # fmt: skip
    config = gemma.config(made, text, tower.config, side)
    torch.manual_seed(seed)
    net: Any = Gemma3ForConditionalGeneration(config)
    net.set_attn_implementation("eager")  # on a processor quicker than the fused one, backwards
    state = tower.state_dict()
    seeing = {k.removeprefix("vision."): v for k, v in state.items() if k.startswith("vision.")}
    net.model.vision_tower.load_state_dict(seeing)
    with torch.no_grad():
        net.model.multi_modal_projector.mm_soft_emb_norm.weight.copy_(state["w"])
        net.model.multi_modal_projector.mm_input_projection_weight.copy_(state["proj"] @ across)
    for part in (net.model.vision_tower, net.model.multi_modal_projector):
        part.requires_grad_(False)
    gemma.ends_its_turn(net, made)
    return net, processor


def take_up(net: Any, folder: Path) -> None:
    """The language part starts as that of a simgemma that was written to `folder`."""
    known = Gemma3ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    net.model.language_model.load_state_dict(known.model.language_model.state_dict())


def save(net: Any, processor: Any, folder: Path) -> None:
    """Writes the model in bf16 with all that transformers needs to load it."""
    net.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
