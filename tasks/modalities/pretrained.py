"""Pretrained bases: find one, verify it, and load it with transformers."""

import importlib.util
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.core import errors
from tasks.core.errors import ConfigError, RetryableError, StageError
from tasks.recipe.train import Train
from tasks.storage import hashing

# Up to this many tokens attention is written out on a CPU. Torch's fused attention has a slow
# backward pass there: written out, a step takes two thirds of the time, but memory that grows
# with the square of the length.
MAX_EAGER_TOKENS = 512
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
DOWNLOADED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
# Short fine-tuning gains nothing from dropout, and its random numbers cost a quarter of a step.
DROPOUT_KEYS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "dropout",
    "attention_dropout",
)

# Types of transformers, which is not imported here because that takes seconds.
PretrainedModel = Any
PretrainedTokenizer = Any
PretrainedConfig = Any
# A network of our own around such a model: a torch module whose submodules are read by name.
WrappedModel = Any
Pooling = Literal["cls", "mean"]


@dataclass(frozen=True)
class LoadedBase:
    """A base with its tokenizer, and how its token vectors become one vector."""

    model: PretrainedModel
    tokenizer: PretrainedTokenizer
    pooling: Pooling


def resolve_base_folder(config: Train) -> Path:
    """Find the folder of `base`: package:NAME, a folder, or a model on the hub.

    Raises:
        ConfigError: There is no such base, or it is in a format that is not loaded.
        StageError: It is damaged, or its weights have not the `sha256` of the recipe.
        RetryableError: The hub cannot be reached.
    """
    base = config.base or ""
    key = config.base_key
    if base.startswith("package:"):
        folder = find_base_in_package(base.removeprefix("package:"), key)
    elif Path(base).is_dir():
        folder = Path(base)
    elif base.count("/") > 1 or base.startswith((".", "/")):
        raise ConfigError(f"{key}: the folder {base} does not exist: correct the path.")
    else:
        folder = download_base(base, key)
    require_safetensors(folder, key)
    refuse_own_code(folder, key)
    if config.sha256:
        verify_weights(folder / "model.safetensors", config.sha256, key)
    return folder


def find_base_in_package(package: str, key: str) -> Path:
    """Find the folder with the weights in an installed Python package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"{key}: the package {package!r} is not installed: install it, or name a folder or a "
            "hub id."
        )
    root = Path(spec.submodule_search_locations[0])
    return next((path.parent for path in sorted(root.rglob("model.safetensors"))), root)


def download_base(base: str, key: str) -> Path:
    """Download a base from the hub, or take it from the hub's local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        return Path(snapshot_download(base, allow_patterns=DOWNLOADED_FILES))
    except (RepositoryNotFoundError, HFValidationError):
        raise ConfigError(
            f"{key}: {base!r} is neither a folder nor a model on the hub: correct the name."
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise RetryableError(
            f"{key}: {base} could not be fetched from the hub ({errors.first_line(error)}): "
            "check the connection, or name a local folder."
        ) from None


def require_safetensors(folder: Path, key: str) -> None:
    """Raise ConfigError if the weights are not in model.safetensors, with a config.json."""
    has_weights = (folder / "model.safetensors").is_file()
    pickles = list_pickles(folder)
    if not has_weights and pickles:
        raise ConfigError(
            f"{key}: {folder} has its weights in {pickles[0]}, a pickle, which may run any code "
            "when it is read: convert them to model.safetensors."
        )
    if not has_weights or not (folder / "config.json").is_file():
        raise ConfigError(
            f"{key}: {folder} has no model.safetensors with a config.json: only safetensors are "
            "read; convert the model first."
        )


def list_pickles(folder: Path) -> list[str]:
    """Return the names of the files in which torch keeps weights as pickles."""
    names: list[str] = []
    for pattern in PICKLE_PATTERNS:
        names += [path.name for path in folder.glob(pattern)]
    return sorted(names)


def refuse_own_code(folder: Path, key: str) -> None:
    """Raise ConfigError if a configuration file of the base refers to its own Python code."""
    for name in ("config.json", "tokenizer_config.json"):
        path = folder / name
        if path.is_file() and "auto_map" in read_base_json(path, key):
            raise ConfigError(
                f"{key}: {path} asks for code of the model's own (auto_map), which is never run: "
                "use a model that transformers knows itself."
            )


def read_base_json(path: Path, key: str) -> dict[str, Any]:
    """Read a JSON file of the base."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StageError(
            f"{key}: {path} is not valid JSON ({error}): the model is damaged; get it again."
        ) from None
    return content


def verify_weights(weights: Path, expected: str, key: str) -> None:
    """Raise StageError if the weights have another sha256 than the recipe expects."""
    actual = hashing.sha256(weights)
    if actual != expected:
        raise StageError(
            f"{key}: {weights} has sha256 {actual}, but the recipe expects {expected}: the file "
            "was changed or damaged; install it again, or correct the sha256."
        )


def load_base(config: Train, auto_class: str = "AutoModel") -> LoadedBase:
    """Load the base with the class of transformers that is named.

    Raises:
        ConfigError: See `resolve_base_folder`.
        StageError: It is damaged, or its configuration does not describe its weights.
    """
    silence_transformers()
    folder = resolve_base_folder(config)
    model, tokenizer, loading_info = load_with_transformers(folder, auto_class, config.base_key)
    mismatches = list(find_weight_mismatches(model, loading_info))
    if mismatches:
        others = f", and {len(mismatches) - 1} more" if len(mismatches) > 1 else ""
        raise StageError(
            f"{config.base_key}: the config.json of {folder} does not describe its "
            f"model.safetensors: {mismatches[0]}{others}: take both from one model."
        )
    return LoadedBase(model, tokenizer, read_pooling(folder / "1_Pooling" / "config.json"))


def load_with_transformers(
    folder: Path, auto_class: str, key: str
) -> tuple[PretrainedModel, PretrainedTokenizer, dict[str, Any]]:
    """Load model and tokenizer; the third value says which weights did not fit."""
    import torch
    import transformers
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    load_errors = (OSError, ValueError, RuntimeError, KeyError, SafetensorError)
    try:
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
        disable_dropout(config)
        model, loading_info = getattr(transformers, auto_class).from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (*load_errors, StrictDataclassError) as error:
        raise StageError(
            f"{key}: {folder} cannot be loaded by transformers "
            f"({errors.first_line(error).rstrip(': ')}): it is damaged, lacks its tokenizer, or "
            "is a kind that transformers does not support."
        ) from None
    return model, tokenizer, loading_info


def disable_dropout(config: PretrainedConfig) -> None:
    """Set every dropout rate of a configuration to zero."""
    for key in DROPOUT_KEYS:
        if hasattr(config, key):
            setattr(config, key, 0.0)


def read_pooling(path: Path) -> Pooling:
    """Read the pooling from a configuration of sentence-transformers, old or new; else CLS."""
    if not path.is_file():
        return "cls"
    config = json.loads(path.read_text(encoding="utf-8"))
    is_cls = config.get("pooling_mode") == "cls" or config.get("pooling_mode_cls_token")
    return "cls" if is_cls else "mean"


def find_weight_mismatches(model: PretrainedModel, loading_info: dict[str, Any]) -> Iterator[str]:
    """Describe the weights that transformers would pass over with a warning.

    They have another shape, are missing, or belong to a layer that the configuration lacks.
    """
    for name, in_file, in_model in sorted(loading_info["mismatched_keys"]):
        yield f"{name} has the shape {tuple(in_file)} there and {tuple(in_model)} here"
    for name in sorted(loading_info["missing_keys"]):
        if not name.startswith("pooler."):
            yield f"{name} is not there"
    known = {without_numbers(name) for name in model.state_dict()}
    for name in sorted(loading_info["unexpected_keys"]):
        if without_numbers(name).removeprefix(f"{model.base_model_prefix}.") in known:
            yield f"{name} is there and has no place"


def without_numbers(name: str) -> str:
    """Replace the numbers in a weight's name, which count layers."""
    return re.sub(r"\d+", "0", name)


def silence_transformers() -> None:
    """Keep transformers from printing progress bars and warnings."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def resolve_max_length(
    config: Train, base_config: PretrainedConfig, tokenizer: PretrainedTokenizer
) -> int:
    """Return how many tokens of a text the network reads, and warn if the recipe wants more.

    Some bases read fewer tokens than they have positions; their tokenizer knows how many.
    """
    positions = getattr(base_config, "max_position_embeddings", config.max_length)
    limit: int = min(positions, tokenizer.model_max_length)
    is_first_process = os.environ.get("RANK", "0") == "0"
    if config.max_length > limit and is_first_process:
        section = config.base_key.removesuffix("base")
        print(
            f"warning: {section}max_length is {config.max_length}; the base reads {limit} tokens: "
            "texts are cut there",
            flush=True,
        )
    return min(config.max_length, limit)


def enable_activation_checkpointing(model: PretrainedModel, config: Train) -> None:
    """Have the model recompute activations in the backward pass, which saves memory."""
    if not model.supports_gradient_checkpointing:
        key = f"{config.base_key.removesuffix('base')}activation_checkpointing"
        raise ConfigError(
            f"{key}: transformers does not offer it for a {model.config.model_type}: leave it out."
        )
    model.activation_checkpointing_enable({"use_reentrant": False})
    # The reentrant kind would need these hooks. They cannot be copied, which averaging the
    # weights and FSDP2 need.
    model.disable_input_require_grads()
