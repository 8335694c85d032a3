"""The section `pretrain`: how a base is made from rows without labels."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from tasks.recipe.base import BaseName, Section, Width, is_or_are
from tasks.recipe.train import Train

LABEL_KEYS = (
    "hidden_sizes",
    "dropout",
    "label_smoothing",
    "class_weights",
    "augment",
    "warm_start",
    "lexical",
)


class Network(Section):
    """The size of a new transformer and its tokenizer."""

    layers: int = Field(4, ge=1, le=1000, description="The number of layers.")
    hidden_size: Width = Field(256, description="The size of a token's vector.")
    num_heads: Width = Field(
        4, description="The number of attention heads of a layer; divides `hidden_size`."
    )
    vocab_size: int = Field(
        8000, ge=300, le=1_000_000, description="The most tokens of the tokenizer."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe a size that the heads cannot share."""
        if self.hidden_size % self.num_heads:
            yield (
                f"hidden_size is {self.hidden_size}, which cannot be divided by num_heads, "
                f"{self.num_heads}: write a multiple of {self.num_heads}"
            )


class Pretrain(Train):
    """Training on the texts alone; `train` then starts from the result.

    It has the keys of `train` and `network`. Those that need labels are refused.
    """

    base_key: ClassVar[str] = "pretrain.base"

    base: BaseName | None = Field(
        None,
        description="The pretrained model to go on from: package:NAME, a folder, or a model of "
        "the Hugging Face Hub. Either this or `network` is needed.",
    )
    network: Network | None = Field(
        None, description="The size of a new network; its tokenizer is made from the texts."
    )
    epochs: int = Field(
        3,
        ge=0,
        le=1_000_000_000,
        description="The most passes over the texts; 0 leaves the weights as they begin.",
    )
    metric: Literal["log_loss"] = Field(
        "log_loss", description="The metric by which epochs are compared."
    )

    def cross_field_errors(self) -> Iterator[str]:
        """Describe keys that do not go together, or that need labels."""
        yield from super().cross_field_errors()
        if (self.base is None) == (self.network is None):
            yield (
                "needs either base, a model to go on from, or network, the size of a new one, "
                "such as {layers: 4, hidden_size: 256}"
            )
        label_keys = self.changed_keys(*LABEL_KEYS)
        if label_keys:
            yield (f"{is_or_are(label_keys)} for training with labels: move to train, or leave out")
