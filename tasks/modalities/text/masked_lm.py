"""Masked language modelling (Devlin et al. 2019) of a base (domain-adaptive pre-training, Gururangan et al. 2020) or of a new network with its own tokenizer."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks.modalities import pretrained
from tasks.modalities.batching import TokenIds
from tasks.modalities.text.encoder import EncoderTrainer
from tasks.recipe.pretrain import Network, Pretrain
from tasks.storage import files

MASKED_FRACTION = 0.15  # of the tokens are to be guessed: of these 80 % are hidden, 10 % another token, 10 % as they are
SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}


class MaskedLmPretrainer(EncoderTrainer):
    def __init__(self, section: Pretrain, rows: Sequence[str]) -> None:
        import torch

        made = (
            build_modernbert(section.network, rows, section.max_length, section.seed)
            if section.network
            else pretrained.load_base(section)
        )
        super().__init__(section, *made)
        self.base_tokenizer, self.problem = made[1], self  # type: ignore[assignment]  # it says itself what is lost
        self.special = torch.tensor(sorted(self.base_tokenizer.all_special_ids))
        torch.manual_seed(section.seed)
        self.network = build_masked_lm(self.encoder)

    def collate(self, examples: list[TokenIds], generator: Any) -> tuple[Any, ...]:
        """Tokens with some hidden, attention mask, and of those to be guessed the places in the flattened batch and the tokens; always the same to measure."""
        import torch

        ids, mask = super().collate(examples, None)
        generator = generator or torch.Generator().manual_seed(self.section.seed)
        guessed = (
            (torch.rand(ids.shape, generator=generator) < MASKED_FRACTION)
            & (mask == 1)
            & ~torch.isin(ids, self.special)
        )
        draw, other = (
            torch.rand(ids.shape, generator=generator),
            torch.randint(len(self.base_tokenizer), ids.shape, generator=generator),
        )
        hidden = torch.where(
            draw < 0.8, self.base_tokenizer.mask_token_id, torch.where(draw < 0.9, other, ids)
        )
        return (
            torch.where(guessed, hidden, ids),
            mask,
            guessed.flatten().nonzero().squeeze(1),
            ids[guessed],
        )

    def loss(self, outputs: Any, inputs: tuple[Any, ...], targets: Any) -> tuple[Any, float]:
        from torch.nn.functional import cross_entropy

        return cross_entropy(outputs.float(), inputs[3], reduction="sum"), float(len(outputs))

    def scores(self, outputs: Any, inputs: tuple[Any, ...]) -> Any:
        """The loss of each text and over how many tokens."""
        import torch
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(outputs.float(), inputs[3], reduction="none")
        rows, width = inputs[0].shape
        return losses.new_zeros(rows, 2).index_add(
            0, inputs[2] // width, torch.stack([losses, torch.ones_like(losses)], dim=1)
        )

    def measure(self, targets: NDArray[np.int64], scores: NDArray[np.float64]) -> dict[str, float]:
        loss = float(scores[:, 0].sum() / max(1.0, scores[:, 1].sum()))
        return {"log_loss": loss, "perplexity": math.exp(min(loss, 700.0))}

    def export(self, folder: Path) -> dict[str, Any]:
        """The encoder and its tokenizer as transformers and sentence encoders have them; the head, which only guesses tokens, is left behind."""
        self.encoder.cpu().save_pretrained(folder)
        self.base_tokenizer.save_pretrained(folder)
        if self.pooling == "mean":
            about = {
                "pooling_mode_mean_tokens": True,
                "word_embedding_dimension": self.encoder.config.hidden_size,
            }
            files.write_json(folder / "1_Pooling" / "config.json", about)
        return {"parameters": self.encoder.num_parameters(), "vocabulary": len(self.base_tokenizer)}


def build_masked_lm(encoder: Any) -> Any:
    import torch

    embeddings = (
        encoder.get_input_embeddings().weight
    )  # also the weights of the last layer (Press and Wolf 2017)

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            width = embeddings.shape[1]
            self.head = torch.nn.Sequential(
                torch.nn.Linear(encoder.config.hidden_size, width),
                torch.nn.GELU(),
                torch.nn.LayerNorm(width),
            )
            self.bias = torch.nn.Parameter(torch.zeros(len(embeddings)))

        def forward(
            self,
            input_ids: torch.Tensor,
            attention_mask: torch.Tensor,
            places: torch.Tensor,
            tokens: torch.Tensor,
        ) -> torch.Tensor:
            """Logits of the hidden tokens alone, shape (places, vocabulary): those of all would take most of a small network's time."""
            hidden = encoder(
                input_ids=input_ids, attention_mask=attention_mask
            ).last_hidden_state.flatten(0, 1)[places]
            return torch.nn.functional.linear(self.head(hidden), embeddings, self.bias)

    return Masked()


def build_modernbert(
    size: Network, rows: Sequence[str], max_length: int, seed: int
) -> tuple[Any, Any, str]:
    """A ModernBERT (Warner et al. 2024) with random weights and a tokenizer of its own, as `encoders.loaded` gives them.

    It normalises before each layer. BERT does so after, and on some thousands of texts it learns how frequent tokens are and then nothing more (Xiong et al. 2020).
    """
    import torch
    import transformers

    pretrained.silence_transformers()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=train_tokenizer(rows, size.vocab_size), **SPECIAL_TOKENS
    )
    config = transformers.ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden_size,
        num_hidden_layers=size.layers,
        num_attention_heads=size.num_heads,
        intermediate_size=2 * size.hidden_size,
        max_position_embeddings=max_length,
        global_attn_every_n_layers=1,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(seed)
    return transformers.ModernBertModel(config), tokenizer, "mean"


def train_tokenizer(rows: Sequence[str], vocabulary: int) -> Any:
    """Byte-pair encoding (Sennrich et al. 2016) of bytes, so that no character is unknown; of Chinese each character is a word.

    WordPiece of the same library numbers its pieces in another order each time.
    """
    from tokenizers import (
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence(
        [
            normalizers.BertNormalizer(lowercase=True),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = list(SPECIAL_TOKENS.values())
    made.train_from_iterator(
        rows,
        trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=2,
            special_tokens=special,
            initial_alphabet=alphabet,
            show_progress=False,
        ),
    )
    pair = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=pair
    )
    return made
