"""What makes a Gemma 3 of small parts the real one's kin: its marks, its form of a conversation, its classes."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer
from transformers import Gemma3Config, Gemma3ImageProcessorPil, Gemma3Processor, GemmaTokenizer

MARKS = ("<start_of_image>", "<end_of_image>", "<image_soft_token>", "<start_of_turn>", "<end_of_turn>")
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *MARKS)
BYTES = tuple(f"<0x{i:02X}>" for i in range(256))
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


def tokenizer(raw: Tokenizer) -> Any:
    """A trained BPE, whose first words are SPECIAL and BYTES, as Gemma's tokenizer class."""
    trained = json.loads(raw.to_str())["model"]
    names = dict(zip(("boi_token", "eoi_token", "image_token", "sot", "eot"), MARKS, strict=True))
    merges: Any = [tuple(m) for m in trained["merges"]]
    return GemmaTokenizer(vocab=trained["vocab"], merges=merges, extra_special_tokens=names)


def processor(made: Any, px: int, tokens: int) -> Any:
    """Pictures of px x px pixels, each of which becomes so many tokens."""
    pictures = Gemma3ImageProcessorPil(size={"height": px, "width": px})
    return Gemma3Processor(pictures, made, chat_template=CHAT, image_seq_length=tokens)


def config(made: Any, text: dict[str, Any], vision: dict[str, Any], tokens: int) -> Gemma3Config:
    """The config of a model for the tokenizer `made`; `text` and `vision`: the sizes of the two parts."""
    boi, eoi, image = (made.convert_tokens_to_ids(mark) for mark in MARKS[:3])
    text = dict(vocab_size=len(made) + 6, pad_token_id=0, eos_token_id=1, bos_token_id=2, max_position_embeddings=8192,
                **text)  # fmt: skip
    return Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=tokens, boi_token_index=boi,
                        eoi_token_index=eoi, image_token_index=image)  # fmt: skip


def ends_its_turn(net: Any, made: Any) -> None:
    """Let a model stop at the end of its turn."""
    net.generation_config.eos_token_id = [1, made.convert_tokens_to_ids(MARKS[4])]
    net.generation_config.pad_token_id = 0
