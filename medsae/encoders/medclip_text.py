"""MedCLIP's text tower: Bio_ClinicalBERT and a projection, its weights from MedCLIP's checkpoint.

The mean of the hidden states 1, 2 and last, over all positions (those that fill up a shorter caption too), as
MedCLIP's code has it. The word list is not in the checkpoint: vocab.txt of emilyalsentzer/Bio_ClinicalBERT lies in
`cache`/encoders/medclip-text, or was fetched by `hf download`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medsae.encoders import checkpoint
from medsae.encoders.hf import quiet
from medsae.encoders.offered.medclip import files
from medsae.encoders.sources import Wanted, folder_of
from medsae.progress import UserError

BERT = "emilyalsentzer/Bio_ClinicalBERT"
TOWER, LONGEST, DIM = "text_model.", 77, 512


class TextTower(nn.Module):
    """Word indices and mask [t, words] -> [t, 512], not normalised. Keys `model.*`, `projection_head.weight`."""

    def __init__(self, bert: nn.Module):
        super().__init__()
        self.model = bert
        self.projection_head = nn.Linear(bert.config.hidden_size, DIM, bias=False)  # pyright: ignore

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        states = torch.stack([out.hidden_states[i] for i in (1, 2, -1)])
        return self.projection_head(states.mean(2).mean(0))


class MedClipText:
    """Captions -> unit vectors in the space of MedCLIP's images."""

    def __init__(self, tower: TextTower, tokenizer: Any):
        self.tower, self.tokenizer = tower, tokenizer

    @torch.inference_mode()
    def embed_text(self, captions: list[str]) -> np.ndarray:
        """float32 [captions, 512] of unit length. One caption at a time: what fills up a shorter one counts in
        MedCLIP's mean, and a caption must not depend on its neighbours."""
        found = [self.tower(**self._words(caption)) for caption in captions]
        return nn.functional.normalize(torch.cat(found), dim=1).numpy()

    def _words(self, caption: str) -> dict[str, torch.Tensor]:
        given = self.tokenizer([caption], truncation=True, max_length=LONGEST, return_tensors="pt")
        return {key: given[key] for key in ("input_ids", "attention_mask")}


def load(wanted: Wanted) -> MedClipText:
    """The tower of a MedCLIP checkpoint; UserError for one without it, and without the word list."""
    found = files(wanted).weights
    tensors = checkpoint.tensors(found, folder_of(wanted.name, wanted.cache), TOWER, wanted.progress.say)
    if "projection_head.weight" not in tensors:
        raise UserError("this checkpoint holds no text tower", found.path, "give MedCLIP's whole pytorch_model.bin")
    with quiet():
        from transformers import BertConfig, BertModel

        # counted positions are not weights, and versions differ in saving them
        tensors = {k: v for k, v in tensors.items() if not k.endswith("position_ids")}
        words, width = tensors["model.embeddings.word_embeddings.weight"].shape
        layers = 1 + max(int(k.split(".")[3]) for k in tensors if k.startswith("model.encoder.layer."))
        told = BertConfig(
            vocab_size=words, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 64,
            intermediate_size=len(tensors["model.encoder.layer.0.intermediate.dense.weight"]),
            max_position_embeddings=len(tensors["model.embeddings.position_embeddings.weight"]),
        )  # fmt: skip
        tower = TextTower(BertModel(told))
        checkpoint.fit(tower, tensors, f"the text tower of {wanted.name}", found.path, TOWER)
        return MedClipText(tower.eval(), _tokenizer(folder_of("medclip-text", wanted.cache)))


def _tokenizer(folder: Path) -> Any:
    """The word list of Bio_ClinicalBERT, from our cache folder or from that of huggingface_hub. Its repository does not
    say that the list is cased, so that MedCLIP's code lowers every caption, and so is done here."""
    from huggingface_hub import snapshot_download
    from transformers import BertTokenizer

    if not (folder / "vocab.txt").is_file():
        try:
            folder = Path(snapshot_download(BERT, local_files_only=True))
        except OSError as error:
            raise UserError(
                "the word list of MedCLIP's text tower is not on this machine", folder,
                f"hf download {BERT} vocab.txt --local-dir {folder}",
            ) from error  # fmt: skip
    return BertTokenizer.from_pretrained(folder, local_files_only=True, do_lower_case=True)
