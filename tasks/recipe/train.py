"""Train."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    BeforeValidator,
    Field,
)

from tasks.recipe.base import Count, Section
from tasks.recipe.metric_names import Metric


class Augment(Section):
    """How far images are changed at random in training: up to `shift` pixels, `rotate` degrees and the share `zoom`; `elastic` is by how many pixels a
    smooth distortion moves the average one."""

    shift: int = Field(0, ge=0)
    rotate: float = Field(0.0, ge=0, le=45)
    zoom: float = Field(0.0, ge=0, le=0.5)
    elastic: float = Field(0.0, ge=0, le=10)


class Lora(Section):
    """Narrow layers of this `rank` learn beside the linear `layers` of the base, by default all, which stay as they are; `alpha` / rank is their weight."""

    rank: Count = 8
    alpha: Count = 16
    dropout: float = Field(0.0, ge=0, lt=1)
    layers: list[str] | None = Field(None, min_length=1)


def validate_frozen_layers(value: Any) -> Any:
    if value not in (None, "embeddings", "all") and (type(value) is not int or value < 1):
        raise ValueError(
            f"{value!r} is not allowed: write embeddings, all, or how many layers from the input on are to stay as they are"
        )
    return value


def validate_class_weights(value: Any) -> Any:
    weights = (
        value.items()
        if isinstance(value, dict) and value
        else [("", value)]
        if value not in ("none", "balanced")
        else []
    )
    if any(
        type(name) is not str or type(weight) not in (int, float) or not 0 < weight < 1e6
        for name, weight in weights
    ):
        raise ValueError(
            f"{value!r} is not allowed: write none, balanced, or a weight above 0 for classes by name, as in {{'spam': 2.0}}"
        )
    return value


class Train(Section):
    """`base` is package:NAME, a folder or a hub id for text, and none for others. Batches hold at most `batch_size` rows and `batch_tokens` tokens; a step
    takes `gradient_accumulation_steps` of them, shared by `processes`; with `shard` each holds a part of the weights, for models that do not fit into one.

    `hidden_sizes` are the sizes of the hidden layers for tables, `dropout` the share of their outputs that is left out. `weight_decay` is L2, `l1` L1. Of a base,
    `freeze` leaves the embeddings, they and the first n layers, or all as they are; each layer nearer to the input learns at `layerwise_lr_decay` times the rate.
    The `learning_rate` of a text's base is 1e-4 unless given; of a new network that `pretrain` makes it is 5e-4, in both sections.
    With `lexical` a linear model of a text's tokens and pairs of them (TF-IDF), all of them whatever `max_length`, is added to the network; val gives its weight.
    With `warm_start` the weights are at first those of the model in production, where there is one whose classes and shapes are the same.
    `plateau` halves the rate after each epoch in which `metric` did not improve; after `patience` of them in a row training ends, and the best is kept.
    With `compile` torch joins the network's operations into fewer: that takes a minute at first, needs a C++ compiler, and pays for long trainings on a GPU.
    With `ema_decay`, such as 0.998, what is measured and kept is a moving average of the weights, which keeps this share of itself at each step (Polyak 1990).
    A checkpoint comes after `checkpoint_seconds` or later, so that all take at most 3 % of the time; with 0 after every step.
    """

    base_key: ClassVar[str] = "train.base"
    base: str | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    warm_start: bool = False
    max_length: int = Field(128, ge=8, le=8192)
    epochs: Count = 3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(5e-4, gt=0, lt=1)
    schedule: Literal["linear", "cosine", "plateau", "constant"] = "linear"
    batch_size: Count = 64
    batch_tokens: Count = 1024
    gradient_accumulation_steps: Count = 1
    processes: Count = 1
    shard: bool = False
    warmup: float = Field(0.1, ge=0, lt=1)
    weight_decay: float = Field(0.01, ge=0)
    l1: float = Field(0.0, ge=0)
    hidden_sizes: list[Count] = [128, 64]
    dropout: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Annotated[
        Literal["none", "balanced"] | dict[str, float], BeforeValidator(validate_class_weights)
    ] = "none"
    max_grad_norm: float = Field(1.0, gt=0)
    freeze: Annotated[
        int | Literal["embeddings", "all"] | None, BeforeValidator(validate_frozen_layers)
    ] = None
    layerwise_lr_decay: float = Field(1.0, gt=0, le=1)
    ema_decay: float = Field(0.0, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    lora: Lora | None = None
    lexical: bool = False
    activation_checkpointing: bool = False
    patience: Count = 3
    metric: Metric = "macro_f1"
    checkpoint_seconds: float = Field(30.0, ge=0)
    seed: int = 0
    augment: Augment = Augment()

    def changed_keys(self, *names: str) -> list[str]:
        """Those of these keys that are not as they are by default."""
        return [name for name in names if getattr(self, name) != Train.model_fields[name].default]

    def cross_field_errors(self) -> Iterator[str]:
        base = self.changed_keys("freeze", "layerwise_lr_decay", "lora", "activation_checkpointing")
        if base and self.base is None:
            yield f"{' and '.join(base)} {'is' if len(base) == 1 else 'are'} about the layers of a base, and there is none: leave out what needs one"
        if self.freeze == "all" and len(base) > 1:
            yield f"freeze: all leaves no layer to train, for which {' and '.join(base[1:])} would be: leave one out"
        if self.lora and self.freeze is not None:
            yield "lora leaves the whole base as it is, and freeze a part of it: leave out freeze"
        if self.schedule == "plateau" and self.patience < 2:
            yield "schedule: plateau lowers the rate after an epoch without improvement, after which patience: 1 ends the training: raise patience"
        if self.ema_decay and self.shard:
            yield "ema_decay averages whole weights, and shard divides them: leave out one"
        if self.processes > self.batch_size:
            yield f"processes: {self.processes} cannot share a batch of batch_size: {self.batch_size} rows: raise batch_size or lower processes"
