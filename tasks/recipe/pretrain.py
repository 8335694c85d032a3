"""Pretrain."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import (
    Field,
)

from tasks.recipe.base import Count, Section
from tasks.recipe.train import Train


class Network(Section):
    """The size of a new network: what each token is, `hidden_size` numbers, goes through `layers` with `num_heads` each; the tokenizer gets at most `vocab_size` tokens."""

    layers: Count = 4
    hidden_size: Count = 256
    num_heads: Count = 4
    vocab_size: int = Field(8000, ge=300, le=1_000_000)

    def cross_field_errors(self) -> Iterator[str]:
        if self.hidden_size % self.num_heads:
            yield f"hidden_size is {self.hidden_size}, which cannot be divided by num_heads, {self.num_heads}: write a multiple of {self.num_heads}"


class Pretrain(Train):
    """Training on the texts alone, before `train`, which then starts from it: `base` goes on from a model, `network` makes a new one and its tokenizer.

    With `epochs: 0` that one stays as random as it begins. The other keys are as in train.
    """

    base_key: ClassVar[str] = "pretrain.base"
    network: Network | None = None
    epochs: int = Field(3, ge=0)
    metric: Literal["log_loss"] = "log_loss"

    def cross_field_errors(self) -> Iterator[str]:
        yield from super().cross_field_errors()
        if (self.base is None) == (self.network is None):
            yield "needs either base, a model to go on from, or network, the size of a new one, such as {layers: 4, hidden_size: 256}"
        if labelled := self.changed_keys(
            "hidden_sizes",
            "dropout",
            "label_smoothing",
            "class_weights",
            "augment",
            "warm_start",
            "lexical",
        ):
            yield f"{' and '.join(labelled)} {'is' if len(labelled) == 1 else 'are'} for training with labels: move to train, or leave out"
