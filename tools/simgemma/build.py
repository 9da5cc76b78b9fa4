"""Puts a Gemma 3 together from transformers' own classes: tokenizer, processor, language part, and a trained tower."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
    GemmaTokenizer,
)

from medsae.naming import prompts
from tools.simgemma import words
from tools.simgemma.tower import Tower

MARKS = ("<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>", "<end_of_turn>")
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *MARKS)
CHAT = """{{ bos_token }}\
{%- set system = messages[0]['content'] if messages[0]['role'] == 'system' else none -%}
{%- set rest = messages[1:] if messages[0]['role'] == 'system' else messages -%}
{%- for m in rest -%}
{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' }}
{%- if loop.first and system -%}
{{ (system if system is string else system[0]['text']) + '\n\n' }}
{%- endif -%}
{%- if m['content'] is string -%}{{ m['content'] | trim }}
{%- else -%}
{%- for c in m['content'] -%}
{%- if c['type'] == 'image' -%}{{ '<start_of_image>' }}
{%- elif c['type'] == 'text' -%}{{ c['text'] | trim }}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"""
"""Gemma 3's form of a conversation."""
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
        vocab_size=settings.vocabulary, special_tokens=[*SPECIAL, *(f"<0x{i:02X}>" for i in range(256))],
        show_progress=False, min_frequency=2,
    )  # fmt: skip
    raw.train_from_iterator(texts * 3, trainer)
    trained = json.loads(raw.to_str())["model"]
    names = dict(zip(("boi_token", "eoi_token", "image_token", "sot", "eot"), MARKS, strict=True))
    merges: Any = [tuple(m) for m in trained["merges"]]
    made: Any = GemmaTokenizer(vocab=trained["vocab"], merges=merges, extra_special_tokens=names)
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
    side, px = tower.settings.side**2, tower.config["image_size"]
    pictures = Gemma3ImageProcessorPil(size={"height": px, "width": px})
    processor = Gemma3Processor(pictures, made, chat_template=CHAT, image_seq_length=side)
    ids = {mark: made.convert_tokens_to_ids(mark) for mark in SPECIAL}
    config = Gemma3Config(
        text_config=dict(
            vocab_size=len(made) + 6, hidden_size=s.width, intermediate_size=s.mlp, num_hidden_layers=s.layers,
            num_attention_heads=s.heads, num_key_value_heads=s.key_values, head_dim=s.head_width,
            query_pre_attn_scalar=s.head_width, sliding_window=2048,
            layer_types=["sliding_attention"] * (s.layers - 1) + ["full_attention"], pad_token_id=0, eos_token_id=1,
            bos_token_id=2, max_position_embeddings=8192,
        ),
        vision_config=tower.config, mm_tokens_per_image=side, boi_token_index=ids[MARKS[0]],
        eoi_token_index=ids[MARKS[1]], image_token_index=ids[MARKS[2]],
    )  # fmt: skip
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
    net.generation_config.eos_token_id = [1, ids["<end_of_turn>"]]
    net.generation_config.pad_token_id = 0
    return net, processor


def save(net: Any, processor: Any, folder: Path) -> None:
    """Writes the model in bf16 with all that transformers needs to load it."""
    net.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)
