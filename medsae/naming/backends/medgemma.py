"""MedGemma (Gemma 3) in this process. A picture is encoded once and kept; yes and no are read from the logits.

The vision tower costs about 3.3 times the language model's reading of one picture, and one picture is judged for many
neurons: the encoder's output (256 tokens) is kept by the picture's sha256 and handed to the model in place of pixels.

What is not covered: image tokens of pan-and-scan crops (MedGemma does not use them).
"""

from __future__ import annotations

import hashlib
import io
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from medsae.device import pick
from medsae.naming.backends import Backend, Load, Picture, PictureGone, Question, Reply, Study
from medsae.naming.completion import without_thinking
from medsae.progress import Progress, UserError, first_line

DEFAULT_MODEL = "google/medgemma-4b-it"
SHIPPED = {"simgemma": Path(__file__).parents[1] / "simgemma"}
"""Models that come with the program: their names, and where they lie."""
BATCH, SHIPPED_BATCH = 8, 64
"""Prompts, or pictures, a forward pass: the usual, and for models so small that more of them go at once."""
YES = ("Yes", "yes", "YES", " Yes", " yes", " YES")
NO = ("No", "no", "NO", " No", " no", " NO")
THINKING = "<unused94>"
"""The token with which MedGemma 1.5 and 27b begin to think before they answer."""
ROOM = 0.75
"""Share of a GPU's free memory that weights may fill where a model is spread over several GPUs."""
CACHE_MIB = 8_192
"""Main memory for encoded pictures: 1.25 MiB each at 256 tokens x 2,560 x bf16, so about 6,500 pictures."""


@dataclass(frozen=True)
class Weights:
    """Which model is loaded, and where."""

    model: str | None
    """Its name or a folder; None: DEFAULT_MODEL."""
    device: str = "auto"
    four_bit: bool = False
    cache_mib: float = CACHE_MIB


class MedGemma(Backend):
    """A Gemma 3 with vision, loaded through the auto classes; `model` is its name, with a fingerprint for a folder."""

    name, concurrency = "medgemma", 1

    def __init__(self, weights: Weights, load: Load, *, batch: int, seed: int = 0, progress: Progress | None = None):
        source, four_bit = weights.model or DEFAULT_MODEL, weights.four_bit
        self.device = pick(weights.device)
        if four_bit and self.device.type != "cuda":
            raise UserError("--four-bit needs a CUDA device", self.device, "leave it out, or use --device cuda")
        if progress is not None:
            progress.say(f"loading {source} on {self.device} ...")
        self.processor, self.net = _load(source, self.device, four_bit)
        self.model = _fingerprint(source) + (" 4-bit" if four_bit else "")
        self.load, self.batch, self.seed, self.cache_bytes = load, batch, seed, int(weights.cache_mib * 2**20)
        self.kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self.kept_bytes = self.uses = self.encoded = self.halvings = 0
        self.distinct: set[str] = set()
        tokenizer = self.processor.tokenizer
        tokenizer.padding_side = "left"
        self.yes, self.no = answer_tokens(tokenizer)
        self.thinking = _thinking_tokens(tokenizer)
        self.marks = [str(mark) for mark in tokenizer.all_special_tokens]
        ends = getattr(self.net.generation_config, "eos_token_id", None)
        self.ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])}

    def ask(self, questions: Sequence[Question]) -> list[Reply]:
        """Judgements in batches of `batch` prompts, explanations in batches of as many pictures."""
        gone = self._encode([picture for question in questions for picture in question.pictures])
        replies: dict[int, Reply] = {}
        for i, question in enumerate(questions):
            reasons = [gone[p.sha256] for p in question.pictures if p.sha256 in gone]
            if reasons:
                replies[i] = Reply("unreadable picture", reasons[0])
        readable = [i for i in range(len(questions)) if i not in replies]
        for group in _groups(readable, questions, self.batch):
            replies |= dict(zip(group, self._halving([questions[i] for i in group]), strict=True))
        return [replies[i] for i in range(len(questions))]

    def facts(self) -> dict[str, Any]:
        saved = 1 - self.encoded / self.uses if self.uses else 0.0
        return {"encodings": self.encoded, "picture_uses": self.uses, "distinct_pictures": len(self.distinct),
                "encodings_saved": round(saved, 4), "batch": self.batch, "device": str(self.device)}  # fmt: skip

    def close(self) -> None:
        self.kept.clear()
        self.kept_bytes = 0

    def _halving(self, questions: list[Question]) -> list[Reply]:
        """The replies of one batch; out of memory halves the batch, for good, and at one prompt stops the run."""
        try:
            return self._forward(questions)
        except torch.OutOfMemoryError as error:
            if len(questions) == 1:
                what = f"out of memory with a single prompt of {len(questions[0].pictures)} picture(s)"
                do = "free the device, or use --four-bit, a smaller model or --device cpu; answers so far are kept"
                raise UserError(what, self.device, do) from error
        self._halve(len(questions))
        middle = (len(questions) + 1) // 2
        return self._halving(questions[:middle]) + self._halving(questions[middle:])

    @torch.inference_mode()
    def _forward(self, questions: list[Question]) -> list[Reply]:
        began = time.monotonic()
        inputs = self._inputs(questions)
        lengths = inputs["attention_mask"].sum(1).tolist()
        if questions[0].task == "judge":
            logits = self.net(**inputs, position_ids=_positions(inputs["attention_mask"]), logits_to_keep=1).logits
            last = logits[:, -1].float()
            last[:, self.thinking] = -torch.inf
            probabilities = last.softmax(-1)
            yes, no = probabilities[:, self.yes].sum(1).tolist(), probabilities[:, self.no].sum(1).tolist()
            seconds = (time.monotonic() - began) / len(questions)
            return [
                Reply("ok", "", y / (y + n) if y + n else float("nan"), y + n, seconds, length, 0)
                for y, n, length in zip(yes, no, lengths, strict=True)
            ]
        tokens = max(q.max_tokens for q in questions)
        written = self.net.generate(
            **inputs, do_sample=False, max_new_tokens=tokens, suppress_tokens=self.thinking or None
        )
        written = written[:, inputs["input_ids"].shape[1] :]
        texts = [without_thinking(text) for text in self.processor.batch_decode(written, skip_special_tokens=False)]
        seconds = (time.monotonic() - began) / len(questions)
        return [
            Reply(
                "ok",
                self._plain(text),
                seconds=seconds,
                tokens_in=length,
                tokens_out=written.shape[1],
                thought=thought,
                cut=not set(ids) & self.ends,
            )
            for (text, thought), length, ids in zip(texts, lengths, written.tolist(), strict=True)
        ]

    def _plain(self, text: str) -> str:
        """Without the tokens that end, fill or mark a turn; a model that thinks marks that with such tokens too, so
        they are there until the thinking is left out."""
        for mark in self.marks:
            text = text.replace(mark, "")
        return text

    def _inputs(self, questions: list[Question]) -> dict[str, Any]:
        """Token ids with room for every picture, and the kept encodings in place of pixels."""
        processor = self.processor
        texts = [
            processor.apply_chat_template(_messages(q), tokenize=False, add_generation_prompt=True).replace(
                processor.boi_token, processor.full_image_sequence
            )
            for q in questions
        ]
        # The chat template has written the beginning-of-sequence token already.
        encoded = processor.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        ids, mask = encoded["input_ids"].to(self.device), encoded["attention_mask"].to(self.device)
        pictures = [picture for question in questions for picture in question.pictures]
        kinds = (ids == self.net.config.image_token_id).long()
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": kinds}
        if pictures:
            features = torch.stack([self.kept[picture.sha256] for picture in pictures]).to(self.device)
            inputs["mm_encoder_outputs"] = {"image": _Features(features)}
        return inputs

    def _encode(self, pictures: Sequence[Picture]) -> dict[str, str]:
        """Encode the pictures that are not kept; returns sha256 -> reason for those that cannot be read.

        The least recently used make room for new ones, but never one of `pictures`.
        """
        self.uses += len(pictures)
        wanted = {picture.sha256: picture for picture in pictures}
        self.distinct |= set(wanted)
        gone: dict[str, str] = {}
        jpegs: dict[str, bytes] = {}
        for sha, picture in wanted.items():
            if sha in self.kept:
                self.kept.move_to_end(sha)
                continue
            try:
                jpegs[sha] = self.load(picture.image)
            except PictureGone as error:
                gone[sha] = str(error)
        for sha, features in zip(jpegs, self._tower(list(jpegs.values())), strict=True):
            self.kept[sha] = features
            self.kept_bytes += features.nbytes
        self.encoded += len(jpegs)
        for sha in list(self.kept):
            if self.kept_bytes <= self.cache_bytes:
                break
            if sha not in wanted:
                self.kept_bytes -= self.kept.pop(sha).nbytes
        return gone

    @torch.inference_mode()
    def _tower(self, jpegs: list[bytes]) -> list[torch.Tensor]:
        """The encoder's output of each picture, [tokens, width], in main memory; out of memory halves the batch."""
        rows: list[torch.Tensor] = []
        while len(rows) < len(jpegs):
            part = jpegs[len(rows) : len(rows) + self.batch]
            images = [Image.open(io.BytesIO(jpeg)).convert("RGB") for jpeg in part]
            pixels = self.processor.image_processor(images=images, return_tensors="pt")["pixel_values"]
            try:
                pixels = pixels.to(self.device, self.net.dtype)
                features = self.net.get_image_features(pixels, return_dict=True).pooler_output
                rows += [row.clone() for row in features.cpu()]
                continue
            except torch.OutOfMemoryError as error:
                if self.batch == 1:
                    do = "free the device, or use --device cpu; answers so far are kept"
                    raise UserError("out of memory while encoding a single picture", self.device, do) from error
            self._halve(len(part))
        return rows

    def _halve(self, failed: int) -> None:
        """From now on at most half of the `failed` prompts or pictures go at once."""
        # Called outside the except block: the traceback would keep the tensors of the failed batch alive.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.batch, self.halvings = max(1, min(self.batch, failed // 2)), self.halvings + 1


def make(config: Any, study: Study, progress: Progress) -> MedGemma:
    """The model of a config, loaded; UserError when its weights are not on this machine."""
    weights = Weights(config.model, config.device, config.four_bit)
    batch = config.batch or (SHIPPED_BATCH if config.model in SHIPPED else BATCH)
    return MedGemma(weights, study.jpeg, batch=batch, seed=config.seed, progress=progress)


class _Features:
    """What the model reads of an encoder's output."""

    def __init__(self, pooler_output: torch.Tensor):
        self.pooler_output = pooler_output


def answer_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids that mean yes and no: every one-token spelling; failing that, the first token of each spelling.

    UserError when the two cannot be told apart (then logits say nothing).
    """
    sides = []
    for spellings in (YES, NO):
        ids = [tokenizer.encode(s, add_special_tokens=False) for s in spellings]
        whole = {i[0] for i in ids if len(i) == 1}
        sides.append(whole or {i[0] for i in ids if i})
    if not sides[0] or not sides[1] or sides[0] & sides[1]:
        raise UserError("this model's tokenizer cannot tell Yes from No by one token", None, "use --backend endpoint")
    return sorted(sides[0]), sorted(sides[1])


def _thinking_tokens(tokenizer: Any) -> list[int]:
    """The token that begins thinking, where the vocabulary has it: it is never chosen. What a model thinks takes
    thousands of tokens and often does not end, and a verdict is read from the first token of the answer."""
    number = tokenizer.convert_tokens_to_ids(THINKING)
    return [] if number is None or number == tokenizer.unk_token_id else [number]


def _groups(indices: list[int], questions: Sequence[Question], batch: int) -> list[list[int]]:
    """Indices in batches of one task: `batch` prompts of one picture, or prompts of about `batch` pictures together."""
    groups: list[list[int]] = []
    pictures = 0
    for i in sorted(indices, key=lambda i: questions[i].task != "judge"):
        task, n = questions[i].task == "judge", len(questions[i].pictures)
        same = groups and (questions[groups[-1][0]].task == "judge") == task
        if same and pictures + n <= max(batch, 1):
            groups[-1].append(i)
            pictures += n
        else:
            groups.append([i])
            pictures = n
    return groups


def _messages(question: Question) -> list[dict[str, Any]]:
    content = [{"type": "image"} for _ in question.pictures] + [{"type": "text", "text": question.text}]
    system = [{"role": "system", "content": [{"type": "text", "text": question.system}]}] if question.system else []
    return [*system, {"role": "user", "content": content}]


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _load(source: str, device: torch.device, four_bit: bool) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    meanwhile = "--backend labels and --backend endpoint work meanwhile"
    folder = _folder(source)
    where = source if folder is None else str(folder)
    options: dict[str, Any] = {"dtype": torch.float32 if device.type == "cpu" else torch.bfloat16}
    if four_bit:
        options |= _four_bit()
    options |= _spread(device)
    try:
        # Only what is on this machine: gigabytes are never fetched by surprise.
        config = AutoConfig.from_pretrained(where, local_files_only=True)
        if not hasattr(config, "vision_config"):
            raise UserError(
                f"{source} has no vision: it is a {config.model_type}", where, f"give a Gemma 3; {meanwhile}"
            )
        if config.model_type != "gemma3":
            raise UserError(f"{source} is a {config.model_type}, not a Gemma 3", where, f"give a MedGemma; {meanwhile}")
        processor = AutoProcessor.from_pretrained(where, local_files_only=True)
        net: Any = AutoModelForImageTextToText.from_pretrained(where, local_files_only=True, **options)
        if "device_map" not in options:
            net = net.to(device)
    except (OSError, ValueError, ImportError) as error:
        do = (
            "accept the terms on the model's page at Hugging Face (google/medgemma-4b-it), then run "
            f"`hf download {source}`, or give --model FOLDER with config, processor and weights; {meanwhile}"
        )
        what = f"no weights of {source} on this machine ({first_line(error)})"
        raise UserError(what, where, do) from error
    except torch.OutOfMemoryError as error:
        raise _too_large(source, device) from error
    if "disk" in getattr(net, "hf_device_map", {}).values():
        raise _too_large(source, device)
    return processor, net.eval()


def _four_bit() -> dict[str, Any]:
    try:
        import bitsandbytes  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        do = "pip install bitsandbytes accelerate"
        raise UserError("--four-bit needs the package bitsandbytes", None, do) from error
    from transformers import BitsAndBytesConfig

    return {"quantization_config": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16),
            "device_map": "cuda"}  # fmt: skip


def _spread(device: torch.device) -> dict[str, Any]:
    """Where there are several GPUs: weights fill the first up to `ROOM` of what is free, then the next, so that a model
    that fits into one stays in one, and 27b has room in several."""
    if device.type != "cuda" or torch.cuda.device_count() < 2:
        return {}
    try:
        import accelerate  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {}
    free = {i: int(ROOM * torch.cuda.mem_get_info(i)[0]) for i in range(torch.cuda.device_count())}
    return {"device_map": "sequential", "max_memory": free}


def _too_large(source: str, device: torch.device) -> UserError:
    """A model whose weights have no room."""
    do = "use --four-bit, a smaller model, or a server (--backend endpoint)"
    if device.type == "cuda":
        do += "; it is spread over all GPUs that are seen (CUDA_VISIBLE_DEVICES) where the package accelerate is there"
    return UserError(f"{source} does not fit into the memory of {device}", source, do)


def _folder(source: str) -> Path | None:
    """The folder that a model's name stands for: one that comes with the program, or a path; None for another name."""
    folder = SHIPPED.get(source, Path(source).expanduser())
    return folder if folder.is_dir() else None


def _fingerprint(source: str) -> str:
    """The source's name; for a folder its name and 8 hex digits over config and the weight files' names and sizes."""
    folder = _folder(source)
    if folder is None:
        return source
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(f"{path.name}:{path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(2**20))
    return f"{folder.resolve().name}@{digest.hexdigest()[:8]}"
