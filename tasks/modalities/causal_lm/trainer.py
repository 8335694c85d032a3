"""Training and pre-training of a decoder."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import JsonValue
from tokenizers import Tokenizer

from tasks.contracts.model_info import CausalLmInput, LoadedBy
from tasks.core.errors import ConfigError
from tasks.modalities import batching, onnx, pretrained, tokenizer_config
from tasks.modalities.base import BaseSize, ModelTrainer, Pretrainer, Trainer
from tasks.modalities.causal_lm import networks, packing
from tasks.modalities.causal_lm.packing import Boundaries, PromptedText, Window
from tasks.modalities.onnx import ExportedInput
from tasks.modalities.pretrained import LoadedBase, PretrainedTokenizer, WrappedModel
from tasks.problems.base import Problem
from tasks.problems.batch import CausalBatch
from tasks.problems.language import IGNORED_TARGET, LanguageProblem, TokenizedText
from tasks.recipe.pretrain import Pretrain
from tasks.recipe.train import Train
from tasks.storage import hashing
from tasks.storage.layout import ModelFolder

if TYPE_CHECKING:
    import torch

AUTO_CLASS: Literal["AutoModelForCausalLM"] = "AutoModelForCausalLM"  # of transformers


class DecoderTrainer(Trainer):
    """What training and pre-training of a decoder share."""

    SUPPORTS_MIXED_PRECISION = True
    UNIT = "tokens"

    def __init__(self, config: Train, problem: Problem, base: LoadedBase) -> None:
        import torch

        model = base.model
        if config.activation_checkpointing:
            pretrained.enable_activation_checkpointing(model, config)
        self.config = config
        self.problem = problem
        self.base_tokenizer = base.tokenizer
        self.boundaries = find_boundaries(base.tokenizer, config)
        self.max_length = pretrained.resolve_max_length(config, model.config, base.tokenizer)
        self.tokenizer = Tokenizer.from_str(base.tokenizer.backend_tokenizer.to_str())
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        is_short = self.max_length <= pretrained.MAX_EAGER_TOKENS
        if is_short and not torch.cuda.is_available():
            model.set_attn_implementation("eager")
        torch.manual_seed(config.seed)
        self.network: WrappedModel = networks.build_packed_decoder(model)

    def encode(self, rows: Sequence[PromptedText]) -> list[TokenizedText]:
        """Tokenize prompts and texts."""
        return packing.encode_texts(self.tokenizer, self.boundaries, rows)

    def count_units(self, example: TokenizedText) -> int:
        """Count the tokens of an example."""
        return len(example.tokens)

    def batches(self, examples: list[TokenizedText], epoch: int | None) -> list[list[int]]:
        """Return the row numbers of each batch, of at most batch_tokens tokens."""
        batches: list[list[int]] = []
        for indices in batching.split_into_batches(len(examples), epoch, self.config):
            batches += self.split_by_tokens(indices, examples)
        return batches

    def split_by_tokens(self, indices: list[int], examples: list[TokenizedText]) -> list[list[int]]:
        """Split rows into batches of at most batch_tokens tokens, or a single longer row."""
        batches: list[list[int]] = []
        n_tokens = 0
        for index in indices:
            size = len(examples[index].tokens)
            if not batches or n_tokens + size > self.config.batch_tokens:
                batches.append([])
                n_tokens = 0
            batches[-1].append(index)
            n_tokens += size
        return batches

    def collate(
        self, examples: list[TokenizedText], generator: "torch.Generator | None"
    ) -> CausalBatch:
        """Cut examples into windows and pack these into rows.

        Windows overlap by half when a model is measured; in training they do not.
        """
        import torch

        overlap = 0 if generator else self.max_length // 2
        windows = list(packing.iterate_windows(examples, self.max_length, overlap))
        packed = packing.pack_windows([len(window) for window in windows], self.max_length)
        batch = self.build_empty_batch(packed, windows, examples)
        for row, indices in enumerate(packed):
            start = 0
            for index in indices:
                window = windows[index]
                span = slice(start, start + len(window))
                batch.tokens[row, span] = torch.from_numpy(window.tokens)
                batch.targets[row, span] = torch.from_numpy(window.targets)
                batch.positions[row, span] = torch.arange(len(window))
                batch.windows[row, span] = index
                start = span.stop
        return batch

    def build_empty_batch(
        self,
        packed: list[list[int]],
        windows: list[Window],
        examples: list[TokenizedText],
    ) -> CausalBatch:
        """Build a batch that is padding alone, as long as its longest row of windows."""
        import torch

        sizes = np.array([len(window) for window in windows])
        shape = (len(packed), max(int(sizes[indices].sum()) for indices in packed))
        return CausalBatch(
            tokens=torch.full(shape, self.boundaries.eos_id),
            positions=torch.full(shape, 0),
            windows=torch.full(shape, -1),
            targets=torch.full(shape, IGNORED_TARGET),
            example_of_window=torch.tensor([window.example for window in windows]),
            text_bytes=torch.tensor([example.text_bytes for example in examples]),
        )


def find_boundaries(tokenizer: PretrainedTokenizer, config: Train) -> Boundaries:
    """Return the tokens that begin and end a text; the one that ends it may also begin it."""
    eos_id = tokenizer.eos_token_id
    if eos_id is None:
        raise ConfigError(
            f"train.base: the tokenizer of {config.base} has no token that ends a text "
            "(eos_token): name a base whose tokenizer has one."
        )
    bos_id = tokenizer.bos_token_id
    return Boundaries(eos_id if bos_id is None else bos_id, eos_id)


class CausalLmTrainer(DecoderTrainer, ModelTrainer):
    """Trains a decoder on the texts of rows, without their prompts."""

    WEIGHT_FILES = ("model.safetensors", "config.json")

    def __init__(
        self,
        config: Train,
        rows: Sequence[PromptedText],
        problem: Problem,
    ) -> None:
        super().__init__(config, problem, pretrained.load_base(config, AUTO_CLASS))
        packing.begin_with_token(self.tokenizer, self.boundaries.bos_id)

    @property
    def labels(self) -> list[str]:
        """A hash of tokenizer.json: tokens of another tokenizer cannot be compared with these."""
        serialized = batching.serialize_tokenizer(self.tokenizer)
        return [hashlib.sha256(serialized.encode()).hexdigest()]

    def input_signature(self) -> JsonValue:
        """Return a hash of the tokenizer."""
        return hashing.hash_json(self.tokenizer.to_str())

    def export(self, folder: Path) -> CausalLmInput:
        """Write the tokenizer, and model.onnx with the cache of keys and values as an input."""
        self.write_tokenizer(folder)
        self.network.model.set_attn_implementation("sdpa")
        decoder: WrappedModel = networks.build_cached_decoder(self.network.cpu().model)
        outputs = ["logits", "present"]
        onnx.export_network(decoder, describe_inputs(decoder), ModelFolder(folder).onnx, outputs)
        return CausalLmInput(
            max_length=self.max_length,
            bos_id=self.boundaries.bos_id,
            eos_id=self.boundaries.eos_id,
            kv_cache_shape=decoder.kv_cache_shape,
        )

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer and its configuration."""
        batching.write_tokenizer(self.tokenizer, ModelFolder(folder).tokenizer)
        tokenizer_config.write_tokenizer_config(
            folder, self.name_special_tokens(), self.max_length, padding_side="left"
        )

    def name_special_tokens(self) -> dict[str, str | None]:
        """Return the special tokens by their role, with those that begin and end a text."""
        eos_token = self.tokenizer.id_to_token(self.boundaries.eos_id)
        bos_token = self.tokenizer.id_to_token(self.boundaries.bos_id)
        tokens = tokenizer_config.special_tokens(self.base_tokenizer)
        return {"pad_token": eos_token, **tokens, "bos_token": bos_token, "eos_token": eos_token}

    def save_weights(self, folder: Path) -> LoadedBy:
        """Write the decoder as transformers reads it."""
        self.network.model.save_pretrained(folder)
        return AUTO_CLASS

    def load_weights(self, folder: Path) -> "dict[str, torch.Tensor]":
        """Read what `save_weights` wrote, under the names of the network's own parameters."""
        import torch
        import transformers

        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
        )
        decoder = networks.build_packed_decoder(model)
        return dict(decoder.state_dict())


def describe_inputs(decoder: WrappedModel) -> list[ExportedInput]:
    """Describe the inputs of the exported decoder, with 3 rows, 5 new and 7 cached tokens."""
    import torch

    layers, keys_and_values, heads, head_size = decoder.kv_cache_shape
    tokens = torch.zeros(3, 5, dtype=torch.long)
    past = torch.zeros(layers, keys_and_values, 3, heads, 7, head_size)
    token_axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens")}
    past_axes = {2: torch.export.Dim("rows"), 4: torch.export.Dim("past")}
    return [
        ExportedInput("input_ids", tokens, token_axes),
        ExportedInput("past", past, past_axes),
    ]


class CausalLmPretrainer(DecoderTrainer, Pretrainer):
    """Trains a decoder on prompts and texts: all tokens of a row are to be predicted."""

    def __init__(self, config: Pretrain, rows: Sequence[PromptedText]) -> None:
        if config.network:
            base = networks.build_llama(config.network, rows, config)
        else:
            base = pretrained.load_base(config, AUTO_CLASS)
        super().__init__(config, LanguageProblem([], config), base)

    def encode(self, rows: Sequence[PromptedText]) -> list[TokenizedText]:
        """Tokenize prompts and texts; the prompt counts as text."""
        return [replace(example, text_start=1) for example in super().encode(rows)]

    def save_base(self, folder: Path) -> BaseSize:
        """Write the decoder and its tokenizer as transformers has them."""
        model = self.network.model
        model.cpu().save_pretrained(folder)
        self.base_tokenizer.save_pretrained(folder)
        return BaseSize(model.num_parameters(), len(self.base_tokenizer))
