"""The networks of causal language models: a new one, one for packed rows, one with a cache."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.modalities import pretrained
from tasks.modalities.causal_lm.packing import PromptedText
from tasks.modalities.pretrained import LoadedBase, PretrainedConfig, PretrainedModel
from tasks.recipe.pretrain import Network
from tasks.recipe.train import Train

if TYPE_CHECKING:
    import torch

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
MIN_PAIR_FREQUENCY = 2


def build_llama(size: Network, rows: Sequence[PromptedText], config: Train) -> LoadedBase:
    """Build a Llama with random weights, and train its tokenizer."""
    import torch
    import transformers

    pretrained.silence_transformers()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(rows, size.vocab_size), **SPECIAL_TOKENS
    )
    llama_config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.num_heads,
        # 8/3 of the hidden size: three matrices have as many weights as two of 4 (Shazeer 2020)
        intermediate_size=round(size.hidden_size / 24) * 64,
        max_position_embeddings=config.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(config.seed)
    return LoadedBase(transformers.LlamaForCausalLM(llama_config), tokenizer, "mean")


def train_tokenizer(rows: Sequence[PromptedText], vocab_size: int) -> Tokenizer:
    """Train byte-pair encoding (Sennrich et al. 2016) of bytes.

    It decodes every text to exactly what it was.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_FREQUENCY,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((row["prompt"] + row["text"] for row in rows), trainer)
    return tokenizer


def build_packed_decoder(model: PretrainedModel) -> "torch.nn.Module":
    """Build the decoder for packed rows: a token sees those before it in its own window."""
    import torch

    class TiedOutput(torch.nn.Module):
        """An output layer with the embeddings' weights, which are then not stored twice."""

        def __init__(self, embeddings: torch.nn.Module) -> None:
            super().__init__()
            self.embeddings = [embeddings]  # in a list, so that they are no part of this module

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            weight: Any = self.embeddings[0].weight
            return torch.nn.functional.linear(hidden, weight)

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, tokens: torch.Tensor, positions: torch.Tensor, windows: torch.Tensor
        ) -> torch.Tensor:
            """Return the logits of the token after each, `[rows, length, vocabulary]`."""
            is_same_window = windows[:, None, :, None] == windows[:, None, None, :]
            is_seen = is_same_window.tril()  # [rows, 1, length, length]
            mask = torch.zeros(is_seen.shape, device=is_seen.device)
            mask.masked_fill_(~is_seen, torch.finfo(torch.float32).min)
            logits: torch.Tensor = self.model(
                input_ids=tokens, position_ids=positions, attention_mask=mask, use_cache=False
            ).logits
            return logits

    if model.config.tie_word_embeddings:
        model.set_output_embeddings(TiedOutput(model.get_input_embeddings()))
    return Decoder()


def build_cached_decoder(model: PretrainedModel) -> "torch.nn.Module":
    """Build the decoder for serving.

    It takes new tokens and the cache of those before them, `[layers, keys and values, rows,
    heads, tokens, head size]`, and returns logits and the cache of all.
    """
    import torch
    from transformers import DynamicCache

    class Decoder(torch.nn.Module):
        kv_cache_shape = find_kv_cache_shape(model.config)

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, tokens: torch.Tensor, past: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            # Another order of these steps would give other bytes of the exported file.
            rows = tokens.shape[0]
            n_past = past.shape[4]
            cache = DynamicCache()
            for layer in range(past.shape[0]):
                cache.update(past[layer, 0], past[layer, 1], layer)
            positions = torch.arange(tokens.shape[1]) + n_past
            is_seen = torch.arange(tokens.shape[1] + n_past)[None] <= positions[:, None]
            mask = is_seen[None, None].expand(rows, -1, -1, -1)
            output = self.model(
                input_ids=tokens,
                position_ids=positions[None].expand(rows, -1),
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            )
            layers = output.past_key_values.layers
            present = torch.stack([torch.stack([layer.keys, layer.values]) for layer in layers])
            return output.logits, present

    return Decoder()


def find_kv_cache_shape(config: PretrainedConfig) -> tuple[int, int, int, int]:
    """Return the shape of a token's cache: layers, keys and values, heads, head size."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    return config.num_hidden_layers, 2, heads, head_size
