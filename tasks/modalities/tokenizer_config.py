"""tokenizer_config.json, with which transformers reads a tokenizer.json as Millrace does."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tasks.modalities.pretrained import PretrainedTokenizer
from tasks.storage import files

# What the exported networks take.
INPUT_NAMES = ["input_ids", "attention_mask"]
# The class that takes tokenizer.json as it is; others build their own from its vocabulary.
TOKENIZER_CLASS = "PreTrainedTokenizerFast"


def special_tokens(tokenizer: PretrainedTokenizer) -> dict[str, str]:
    """Return the special tokens by their role, such as `pad_token`."""
    tokens = tokenizer.special_tokens_map
    return {role: str(token) for role, token in tokens.items() if not isinstance(token, list)}


def write_tokenizer_config(
    folder: Path,
    tokens: Mapping[str, str | None],
    max_length: int,
    padding_side: Literal["left", "right"] = "right",
) -> None:
    """Write what tokenizer.json does not say: the length of a text, and the special tokens."""
    config = {
        **tokens,
        "clean_up_tokenization_spaces": False,
        "model_input_names": INPUT_NAMES,
        "model_max_length": max_length,
        "padding_side": padding_side,
        "tokenizer_class": TOKENIZER_CLASS,
        "truncation_side": "right",
    }
    files.write_json(folder / "tokenizer_config.json", config)
