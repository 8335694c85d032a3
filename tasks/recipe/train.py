"""The section `train`: how the network is trained."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from tasks.recipe.base import BaseName, Count, Section, Seed, Width, is_or_are
from tasks.recipe.metric_names import Metric

MAX_CLASS_WEIGHT = 1e6


class Augment(Section):
    """How far images are changed at random in training."""

    shift: int = Field(0, ge=0, le=1000, description="The largest shift, in pixels.")
    rotate: float = Field(0.0, ge=0, le=45, description="The largest rotation, in degrees.")
    zoom: float = Field(
        0.0, ge=0, le=0.5, description="The largest change of size, as a share of the size."
    )
    elastic: float = Field(
        0.0,
        ge=0,
        le=10,
        description="By how many pixels a smooth distortion moves a pixel (root mean square).",
    )


class Lora(Section):
    """Narrow layers that learn beside the linear layers of the base, which stay as they are.

    Low-rank adaptation (Hu et al. 2021).
    """

    rank: Width = Field(8, description="The width of the narrow layers.")
    alpha: Width = Field(16, description="alpha / rank is the weight of their outputs.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="The share of their inputs that is left out in training."
    )
    layers: list[str] | None = Field(
        None,
        min_length=1,
        description="The names of the base's linear layers that get one; by default all.",
    )


def validate_frozen_layers(value: object) -> object:
    """Accept nothing, `embeddings`, `all`, or a number of layers."""
    is_layer_count = type(value) is int and value >= 1
    if value not in (None, "embeddings", "all") and not is_layer_count:
        raise ValueError(
            f"{value!r} is not allowed: write embeddings, all, or how many layers from the input "
            "on are to stay as they are"
        )
    return value


def validate_class_weights(value: object) -> object:
    """Accept `none`, `balanced`, or a positive weight by class."""
    if value in ("none", "balanced"):
        return value
    if not isinstance(value, dict) or not value or not all(map(is_class_weight, value.items())):
        raise ValueError(
            f"{value!r} is not allowed: write none, balanced, or a weight above 0 for classes by "
            "name, as in {'spam': 2.0}"
        )
    return value


def is_class_weight(item: tuple[object, object]) -> bool:
    """Tell whether a class and its weight are a name and a positive number."""
    name, weight = item
    if not isinstance(name, str):
        return False
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        return False
    return 0 < weight < MAX_CLASS_WEIGHT


FrozenLayers = Annotated[
    int | Literal["embeddings", "all"] | None, BeforeValidator(validate_frozen_layers)
]
ClassWeights = Annotated[
    Literal["none", "balanced"] | dict[str, float], BeforeValidator(validate_class_weights)
]


class Train(Section):
    """How the network is trained."""

    base_key: ClassVar[str] = "train.base"

    base: BaseName | None = Field(
        None,
        description="The pretrained model to start from: package:NAME, a folder, or a model of "
        "the Hugging Face Hub. By default a MiniLM encoder for texts, what `pretrain` made if "
        "there is that section, and none for tables and images.",
    )
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$", description="The SHA-256 of the base's weights."
    )
    warm_start: bool = Field(
        default=False,
        description="Start from the weights of the model in production, if its classes and "
        "shapes are the same.",
    )
    max_length: int = Field(
        128, ge=8, le=8192, description="The most tokens of a text that are read."
    )
    epochs: Count = Field(3, description="The most passes over the training rows.")
    optimizer: Literal["adamw", "sgd"] = Field(
        "adamw",
        description="AdamW (Loshchilov and Hutter 2019) or stochastic gradient descent with "
        "momentum.",
    )
    learning_rate: float = Field(
        5e-4,
        gt=0,
        lt=1,
        description="The highest learning rate. By default 1e-4 for a base of texts, and 5e-4 "
        "for a new network that `pretrain` makes, in both sections.",
    )
    schedule: Literal["linear", "cosine", "plateau", "constant"] = Field(
        "linear",
        description="How the learning rate falls after the warm-up: to 0 in a line or a cosine, "
        "by half after each epoch in which `metric` did not improve, or not at all.",
    )
    batch_size: Count = Field(64, description="The most rows of a batch.")
    batch_tokens: Count = Field(1024, description="The most tokens of a batch of texts.")
    gradient_accumulation_steps: Count = Field(
        1, description="The number of batches for one update of the weights."
    )
    processes: int = Field(
        1, ge=1, le=1024, description="The number of processes that share each batch."
    )
    shard: bool = Field(
        default=False,
        description="Let each process hold a part of the weights, for models that do not fit "
        "into one.",
    )
    warmup: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="The share of the updates in which the learning rate rises from 0.",
    )
    weight_decay: float = Field(0.01, ge=0, le=1000, description="The weight of the L2 penalty.")
    l1: float = Field(0.0, ge=0, le=1000, description="The weight of the L1 penalty.")
    hidden_sizes: list[Width] = Field(
        [128, 64],
        max_length=100,
        description="The sizes of the hidden layers of a table's network.",
    )
    dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="The share of the hidden layers' outputs that is left out in training.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="The share of each label that is spread evenly over all classes.",
    )
    class_weights: ClassWeights = Field(
        "none",
        description="The weights of the classes in the loss: `balanced` gives every class the "
        "same total (King and Zeng 2001), a mapping the weights of the classes that it names.",
    )
    max_grad_norm: float = Field(
        1.0, gt=0, description="The norm to which a longer gradient is cut."
    )
    freeze: FrozenLayers = Field(
        None,
        description="What stays as it is in the base: its `embeddings`, these and the first n "
        "layers, or `all`.",
    )
    layerwise_lr_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="The learning rate of each layer of the base, as a share of that of the "
        "layer above it (Howard and Ruder 2018).",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="With it, such as 0.998, a moving average of the weights is measured and "
        "kept; this is the share of itself that it keeps at each update (Polyak 1990). 0 turns "
        "it off.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="The precision of the computations; `auto` is bf16 if the hardware has it and "
        "the network gains from it, else fp32.",
    )
    compile: bool = Field(
        default=False,
        description="Let torch join the network's operations. That takes a minute at first, "
        "needs a C++ compiler, and pays for long trainings on a GPU.",
    )
    lora: Lora | None = Field(
        None, description="Train narrow layers beside those of the base instead of the base."
    )
    lexical: bool = Field(
        default=False,
        description="Add a linear model of a text's tokens and pairs of tokens (TF-IDF), of all "
        "of them whatever `max_length` is; the validation rows give its weight.",
    )
    activation_checkpointing: bool = Field(
        default=False, description="Compute the activations of the base anew to save memory."
    )
    patience: Count = Field(
        3,
        description="The number of epochs in a row without improvement of `metric` after which "
        "training ends; the weights of the best epoch are kept.",
    )
    metric: Metric = Field(
        "macro_f1",
        description="The metric of the validation rows by which epochs are compared; by default "
        "the main one of the problem, macro_f1, micro_f1, rmse or perplexity, and log_loss for "
        "classes in tables.",
    )
    checkpoint_seconds: float = Field(
        30.0,
        ge=0,
        description="The fewest seconds between checkpoints; they come later if they would take "
        "more than 3 % of the time. 0 is after every update.",
    )
    seed: Seed = Field(0, description="The seed of everything random.")
    augment: Augment = Field(Augment(), description="Random changes of images in training.")

    def changed_keys(self, *names: str) -> list[str]:
        """Return those of these keys that differ from their defaults."""
        return [name for name in names if getattr(self, name) != Train.model_fields[name].default]

    def cross_field_errors(self) -> Iterator[str]:
        """Describe keys that do not go together."""
        yield from self.base_layer_errors()
        yield from self.schedule_errors()
        yield from self.process_errors()

    def base_layer_errors(self) -> Iterator[str]:
        """Describe keys for the layers of a base that are of no use."""
        keys = self.changed_keys("freeze", "layerwise_lr_decay", "lora", "activation_checkpointing")
        if keys and self.base is None:
            yield (
                f"{is_or_are(keys)} about the layers of a base, and there is none: leave out what "
                "needs one"
            )
        if self.freeze == "all" and len(keys) > 1:
            others = " and ".join(keys[1:])
            yield f"freeze: all leaves no layer to train, but {others} needs one: leave one out"
        if self.lora and self.freeze is not None:
            yield "lora leaves the whole base as it is, and freeze a part of it: leave out freeze"

    def schedule_errors(self) -> Iterator[str]:
        """Describe a schedule that has no time to act."""
        if self.schedule == "plateau" and self.patience < 2:
            yield (
                "schedule: plateau lowers the rate after an epoch without improvement, but "
                "patience: 1 ends the training there: raise patience"
            )

    def process_errors(self) -> Iterator[str]:
        """Describe what processes cannot share."""
        if self.ema_decay and self.shard:
            yield "ema_decay averages whole weights, and shard divides them: leave out one"
        if self.processes > self.batch_size:
            yield (
                f"processes: {self.processes} cannot share a batch of batch_size: "
                f"{self.batch_size} rows: raise batch_size or lower processes"
            )
