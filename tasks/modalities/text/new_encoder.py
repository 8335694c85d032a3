"""A new encoder for pre-training: a ModernBERT with random weights, and its own tokenizer."""

from collections.abc import Sequence

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

from tasks.modalities import pretrained
from tasks.modalities.pretrained import LoadedBase
from tasks.recipe.pretrain import Network

SPECIAL_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
MIN_PAIR_FREQUENCY = 2


def build_modernbert(size: Network, rows: Sequence[str], max_length: int, seed: int) -> LoadedBase:
    """Build a ModernBERT (Warner et al. 2024) with random weights.

    It normalises before each layer. BERT does so after it, and on some thousands of texts learns
    how frequent tokens are and nothing more (Xiong et al. 2020).
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
    return LoadedBase(transformers.ModernBertModel(config), tokenizer, "mean")


def train_tokenizer(rows: Sequence[str], vocab_size: int) -> Tokenizer:
    """Train byte-pair encoding (Sennrich et al. 2016) of bytes, so that no character is unknown.

    Each Chinese character is a word. WordPiece of the same library numbers its pieces in another
    order each time.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.BertNormalizer(lowercase=True),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_FREQUENCY,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(rows, trainer)
    boundaries = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=boundaries
    )
    return tokenizer
