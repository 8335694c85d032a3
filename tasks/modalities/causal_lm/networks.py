"""Networks."""

from collections.abc import Sequence
from typing import Any

from tokenizers import Tokenizer

from tasks.modalities import pretrained
from tasks.modalities.causal_lm.packing import PromptedText
from tasks.recipe.pretrain import Network
from tasks.recipe.train import Train

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


def build_llama(size: Network, rows: Sequence[PromptedText], section: Train) -> tuple[Any, Any]:
    """A Llama with random weights, and a tokenizer of its own: byte-pair encoding (Sennrich et al. 2016) of bytes, which gives every text back as it was."""
    import torch
    import transformers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    pretrained.silence_transformers()
    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = trainers.BpeTrainer(
        vocab_size=size.vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=alphabet,
        show_progress=False,
    )
    made.train_from_iterator((row["prompt"] + row["text"] for row in rows), learner)
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=made, **SPECIAL_TOKENS)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.num_heads,
        intermediate_size=round(size.hidden_size / 24)
        * 64,  # 8/3 of the width: with three matrices as many weights as 4 with two (Shazeer 2020)
        max_position_embeddings=section.max_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(section.seed)
    return transformers.LlamaForCausalLM(config), tokenizer


def build_packed_decoder(model: Any) -> Any:
    """The decoder for packed rows: each token sees those before it of its own text."""
    import torch

    class Tied(torch.nn.Module):
        """An output layer with the weights of the embeddings, which are then not there twice."""

        def __init__(self, embeddings: torch.nn.Module) -> None:
            super().__init__()
            self.of = [embeddings]

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(hidden, self.of[0].weight)  # type: ignore[arg-type]

    class Decoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self,
            tokens: torch.Tensor,
            places: torch.Tensor,
            texts: torch.Tensor,
            *more: torch.Tensor,
        ) -> torch.Tensor:
            same = (texts[:, None, :, None] == texts[:, None, None, :]).tril()
            mask = torch.zeros(same.shape, device=same.device).masked_fill_(
                ~same, torch.finfo(torch.float32).min
            )
            logits: torch.Tensor = self.model(
                input_ids=tokens, position_ids=places, attention_mask=mask, use_cache=False
            ).logits
            return logits

    if model.config.tie_word_embeddings:
        model.set_output_embeddings(Tied(model.get_input_embeddings()))
    return Decoder()


def build_cached_decoder(model: Any) -> Any:
    """The decoder that goes on: from new tokens and the memory of those before them to logits and the memory of all."""
    import torch
    from transformers import DynamicCache

    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads

    class Decoder(torch.nn.Module):
        memory = (config.num_hidden_layers, 2, heads, size)  # of each token, in each layer

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, tokens: torch.Tensor, past: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            cache, rows, seen = DynamicCache(), tokens.shape[0], past.shape[4]
            for layer in range(past.shape[0]):
                cache.update(past[layer, 0], past[layer, 1], layer)
            places = torch.arange(tokens.shape[1]) + seen
            before = (torch.arange(tokens.shape[1] + seen)[None] <= places[:, None])[
                None, None
            ].expand(rows, -1, -1, -1)
            said = self.model(
                input_ids=tokens,
                position_ids=places[None].expand(rows, -1),
                attention_mask=before,
                past_key_values=cache,
                use_cache=True,
            )
            return said.logits, torch.stack(
                [torch.stack([layer.keys, layer.values]) for layer in said.past_key_values.layers]
            )

    return Decoder()
