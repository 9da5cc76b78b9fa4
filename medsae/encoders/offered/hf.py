"""Any encoder of the Hugging Face shape: a folder, or a repository that `hf download` has fetched. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsae.config import Pooling, check
from medsae.encoders.sources import Checkpoint, Files, Wanted
from medsae.files import sha256_of, slug
from medsae.plugins import Encoder, encoders
from medsae.progress import UserError

PREFIX = "hf:"
CONFIG, PICTURES = "config.json", ("preprocessor_config.json", "processor_config.json")
ADAPTER = "adapter_config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""In the order in which transformers looks for them."""


@dataclass(frozen=True, kw_only=True)
class HfOptions(Pooling):
    """What can be taken of a Hugging Face encoder."""

    layer: int = -1
    """Which hidden state: -1 is the model's output (after its last normalisation), 0 what enters the first layer, 1
    what leaves it, and so on."""
    crop: bool = True
    """Crop as the encoder's preprocessing does. --no-crop shows the whole picture, centred on a black square."""


def files(wanted: Wanted) -> Files:
    """Weights, config and preprocessing of the folder. UserError for what is missing, with the command that gets it."""
    check(wanted.weights is None, "--weights does not belong to an hf: encoder", wanted.name,
          "give the folder: --encoder hf:FOLDER")  # fmt: skip
    folder = folder_of(wanted.name)
    do = f"copy the whole folder of the model here: {CONFIG}, {PICTURES[0]} and {WEIGHTS[0]}"
    config, pictures = folder / CONFIG, next((p for name in PICTURES if (p := folder / name).is_file()), None)
    if (folder / ADAPTER).is_file():
        raise UserError("this folder holds a LoRA adapter, which changes the weights of another model", folder,
                        "save the whole: peft's model.merge_and_unload().save_pretrained(FOLDER)")  # fmt: skip
    check(config.is_file(), f"the folder of this encoder holds no {CONFIG}", folder, do)
    if pictures is None:
        raise UserError("the folder of this encoder does not say how a picture is prepared", folder, do)
    told = read_json(config)
    paths = weight_files(folder)
    if not paths:
        raise UserError("the folder of this encoder holds no weights", folder, do)
    for path in paths:
        check(path.is_file(), f"the weights of this encoder are not whole: {path.name} is missing", folder, do)
    shas = [sha256_of(path) for path in paths]
    joined = shas[0] if len(shas) == 1 else hashlib.sha256("".join(shas).encode()).hexdigest()
    hashes = {"weights": joined, "config": sha256_of(config), "preprocessing": sha256_of(pictures)}
    if told.get("model_type") == "vit_mae":  # embeddings of before, with masks, are others
        hashes["masked"] = hashlib.sha256(b"nothing").hexdigest()
    return Files(model_name(wanted.name, wanted.options), Checkpoint(folder, joined), hashes)


def weight_files(folder: Path) -> list[Path]:
    """The files that the weights are in, shards in order of their names."""
    first = next((path for name in WEIGHTS if (path := folder / name).is_file()), None)
    if first is None or first.suffix != ".json":
        return [] if first is None else [first]
    names = set(read_json(first).get("weight_map", {}).values())
    # a name in an index is data of others: nothing outside the folder is read
    return [folder / Path(name).name for name in sorted(map(str, names))]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model's folder; UserError for anything else."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"this file of the encoder cannot be read ({error})", path, "get the file again") from error
    check(isinstance(found, dict), "this file of the encoder is no JSON object", path, "get the file again")
    return found


def folder_of(name: str) -> Path:
    """Where the files of `hf:FOLDER` or `hf:ORG/NAME[@REVISION]` lie; UserError where they are not on this machine."""
    word = name.removeprefix(PREFIX)
    folder = Path(word).expanduser()
    if folder.is_dir():
        return folder
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", word)
    if named is None:
        raise UserError("there is no such folder", folder, "give hf:FOLDER or hf:ORG/NAME[@REVISION]")
    repository, revision = named.groups()
    from huggingface_hub import constants, snapshot_download

    try:
        return Path(snapshot_download(repository, revision=revision, local_files_only=True))
    except OSError as error:
        command = f"hf download {repository}" + (f" --revision {revision}" if revision else "")
        raise UserError(
            f"the weights of {word} are not on this machine", constants.HF_HUB_CACHE,
            f"{command}    (a gated model first needs its licence accepted on its page, and `hf auth login`; on a "
            "machine with internet, `--local-dir FOLDER` makes a folder to copy here for --encoder hf:FOLDER)",
        ) from error  # fmt: skip


def model_name(name: str, options: Any) -> str:
    """The model and what is taken of it, in a word: `rad-dino`, `rad-dino-layer8-mean`."""
    word = name.removeprefix(PREFIX)
    folder = Path(word).expanduser()
    if folder.is_dir():
        folder = folder.resolve()
        # the cache of huggingface_hub: models--ORG--NAME/snapshots/COMMIT
        inside_cache = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
        base = folder.parent.parent.name.rsplit("--", 1)[-1] if inside_cache else folder.name
    else:
        base = word.partition("@")[0].rsplit("/", 1)[-1]
    layer = getattr(options, "layer", -1)
    parts = [base, f"layer{layer}" if layer != -1 else "", getattr(options, "pool", None) or ""]
    parts.append("" if getattr(options, "crop", True) else "no-crop")
    return slug("-".join(part for part in parts if part).replace("layer-", "layer-minus-"), 60)


encoders.register(
    Encoder(
        name=PREFIX,
        label="Hugging Face",
        help="hf:ORG/NAME[@REVISION] or hf:FOLDER, any image tower of transformers; local files only.",
        load="medsae.encoders.hf:load",
        files="medsae.encoders.offered.hf:files",
        text="medsae.encoders.hf_text:load",
        options=HfOptions,
        prefix=True,
    )
)
