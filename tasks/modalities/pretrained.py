"""Encoders: a base model of transformers with its tokenizer, and how texts become batches of tokens for it."""

import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

from tasks.core import errors
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.train import Train
from tasks.storage import hashing

MAX_EAGER_TOKENS = 512  # tokens


def resolve_base_folder(section: Train) -> Path:
    """Where the base model lies: package:NAME, a folder, or a hub id. Its weights are checked against `sha256` before anything reads them."""
    base, sha256, key = section.base or "", section.sha256, section.base_key
    if base.startswith("package:"):
        spec = importlib.util.find_spec(base.removeprefix("package:"))
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"{key}: the package {base.removeprefix('package:')!r} is not installed: install it, or name a folder or a hub id."
            )
        root = Path(spec.submodule_search_locations[0])
        folder = next((path.parent for path in sorted(root.rglob("model.safetensors"))), root)
    elif Path(base).is_dir():
        folder = Path(base)
    elif base.count("/") > 1 or base.startswith((".", "/")):
        raise ConfigError(f"{key}: the folder {base} does not exist: correct the path.")
    else:
        folder = download_base(base, key)
    weights = folder / "model.safetensors"
    pickles = sorted(
        path.name
        for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
        for path in folder.glob(pattern)
    )
    if not weights.is_file() and pickles:
        raise ConfigError(
            f"{key}: {folder} has its weights in {pickles[0]}, a pickle, which may run any code when it is read: convert them to model.safetensors."
        )
    if not weights.is_file() or not (folder / "config.json").is_file():
        raise ConfigError(
            f"{key}: {folder} has no model.safetensors with a config.json: only safetensors are read; convert the model first."
        )
    for path in (
        folder / name
        for name in ("config.json", "tokenizer_config.json")
        if (folder / name).is_file()
    ):
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise StageError(
                f"{key}: {path} is not valid JSON ({error}): the model is damaged; get it again."
            ) from None
        if "auto_map" in about:
            raise ConfigError(
                f"{key}: {path} asks for code of the model's own (auto_map), which is never run: use a model that transformers knows itself."
            )
    if sha256 and (found := hashing.sha256(weights)) != sha256:
        raise StageError(
            f"{key}: {weights} has sha256 {found}, but the recipe expects {sha256}: the file was changed or damaged; install it again, or correct the sha256."
        )
    return folder


def download_base(base: str, key: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(
            snapshot_download(base, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"])
        )
    except (RepositoryNotFoundError, HFValidationError):
        raise ConfigError(
            f"{key}: {base!r} is neither a folder nor a model on the hub: correct the name."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise RetryableError(
            f"{key}: {base} could not be fetched from the hub ({errors.first_line(error)}): check the connection, or name a local folder."
        ) from None


def load_base(section: Train, kind: str = "AutoModel") -> tuple[Any, Any, str]:
    """The base model, its tokenizer, and how what it says of a text's tokens becomes one vector."""
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    silence_transformers()
    folder = resolve_base_folder(section)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        for name in (
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "dropout",
            "attention_dropout",
        ):
            if hasattr(config, name):
                setattr(
                    config, name, 0.0
                )  # short fine-tuning gains nothing from it, and its random numbers cost a quarter of a step
        model, found = getattr(transformers, kind).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        SafetensorError,
        StrictDataclassError,
    ) as error:
        why = f"{errors.first_line(error).rstrip(': ')}): it is damaged, lacks its tokenizer, or is a kind that transformers does not support"
        raise StageError(
            f"{section.base_key}: {folder} cannot be loaded by transformers ({why}."
        ) from None
    wrong = find_weight_mismatches(model, found)
    if wrong:
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise StageError(
            f"{section.base_key}: the config.json of {folder} does not describe its model.safetensors: {wrong[0]}{more}: take both from one model."
        )
    return model, tokenizer, read_pooling(folder / "1_Pooling" / "config.json")


def read_pooling(path: Path) -> str:
    """How a base makes one vector of its tokens' vectors: as it says in the way of sentence-transformers, in old or new words; else the first one's."""
    said = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"pooling_mode": "cls"}
    )
    return (
        "cls" if said.get("pooling_mode") == "cls" or said.get("pooling_mode_cls_token") else "mean"
    )


def find_weight_mismatches(encoder: Any, found: dict[str, Any]) -> list[str]:
    """What transformers would pass over with a warning: weights of another shape, missing ones, and those of layers that the config does not have."""
    wrong = [
        f"{name} has the shape {tuple(given)} there and {tuple(wanted)} here"
        for name, given, wanted in sorted(found["mismatched_keys"])
    ]
    wrong += [
        f"{name} is not there"
        for name in sorted(found["missing_keys"])
        if not name.startswith("pooler.")
    ]
    known = {re.sub(r"\d+", "0", name) for name in encoder.state_dict()}
    extra = [
        name
        for name in sorted(found["unexpected_keys"])
        if re.sub(r"\d+", "0", name).removeprefix(f"{encoder.base_model_prefix}.") in known
    ]
    return wrong + [f"{name} is there and has no place" for name in extra]


def silence_transformers() -> None:
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def resolve_max_length(section: Train, config: Any, tokenizer: Any) -> int:
    """How many tokens of a text go into the network. Some have fewer than they have positions, of which the tokenizer tells."""
    most: int = min(
        getattr(config, "max_position_embeddings", section.max_length), tokenizer.model_max_length
    )
    if (
        section.max_length > most and os.environ.get("RANK", "0") == "0"
    ):  # of several processes one says it
        print(
            f"warning: {section.base_key.removesuffix('base')}max_length is {section.max_length}; the base reads {most} tokens: texts are cut there",
            flush=True,
        )
    return min(section.max_length, most)


def enable_activation_checkpointing(model: Any, section: Train) -> None:
    if not model.supports_gradient_checkpointing:
        key = f"{section.base_key.removesuffix('base')}activation_checkpointing"
        raise ConfigError(
            f"{key}: transformers does not offer it for a {model.config.model_type}: leave it out."
        )
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.disable_input_require_grads()  # the other kind would need it; its hooks cannot be copied, as the average of the weights and FSDP2 do
