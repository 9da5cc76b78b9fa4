"""Text towers of CLIP and SigLIP: captions in the space of their image tower's projected vector."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from medsae.config import check
from medsae.encoders.hf import WITH_TEXT, _config, _loaded, quiet
from medsae.encoders.offered.hf import folder_of
from medsae.encoders.sources import Wanted
from medsae.progress import UserError

WORDS = ("tokenizer.json", "spiece.model", "vocab.json", "vocab.txt")


class HfText:
    """Captions -> unit vectors."""

    def __init__(self, net: Any, tokenizer: Any, longest: int, padded: bool):
        self.net, self.tokenizer, self.longest, self.padded = net, tokenizer, longest, padded

    @torch.inference_mode()
    def embed_text(self, captions: list[str]) -> np.ndarray:
        """float32 [captions, d] of unit length; longer captions are cut at the tower's longest."""
        given = self.tokenizer(captions, padding="max_length" if self.padded else True, truncation=True,
                               max_length=self.longest, return_tensors="pt")  # fmt: skip
        keys = ("input_ids",) if self.padded else ("input_ids", "attention_mask")
        out = self.net(**{key: given[key] for key in keys})
        found = out.get("text_embeds")
        return nn.functional.normalize(out.pooler_output if found is None else found, dim=1).numpy()


def load(wanted: Wanted) -> HfText:
    """The text tower of a whole CLIP or SigLIP; UserError for a model without one, and without its word list."""
    folder = folder_of(wanted.name)
    told = _config(folder)
    check(told.model_type in WITH_TEXT, f"a model of type {told.model_type!r} has no text tower", folder,
          "choose a whole CLIP or SigLIP")  # fmt: skip
    with quiet():
        import transformers

        net, missing = _loaded(getattr(transformers, WITH_TEXT[told.model_type][1]), folder)
        if missing:
            raise UserError(f"the text tower lacks {missing[0]}", folder, "get the weights again")
        try:
            if not any((folder / name).is_file() for name in WORDS):
                raise OSError("none of its files is there")
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # whatever transformers raises for missing files
            raise UserError(
                "the word list of the text tower is not there", folder,
                f"copy the tokenizer's files there: one of {', '.join(WORDS)}",
            ) from error  # fmt: skip
    # SigLIP was trained with captions filled up to their longest, and without a mask
    return HfText(net, tokenizer, told.text_config.max_position_embeddings, told.model_type == "siglip")
