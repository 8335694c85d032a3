"""A linear head, written into the classification class that transformers has for an encoder.

Those classes put a layer and an activation between the encoder and the last layer; our head is
linear. So the layer between is set to where its activation is linear to the last bits: a tanh near
0, a ReLU or GELU far to its right, a normalisation behind a large constant. Whether the class then
gives the same logits is measured. Some classes never can, as they pool the tokens in another way.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tasks.modalities.pretrained import Pooling, PretrainedConfig, PretrainedModel

if TYPE_CHECKING:
    import torch

TANH_SCALE = 2.0**-14  # tanh(x) / x is 1 to eight digits for the outputs of a layer norm
MIN_SHIFT = 16.0  # from here on GELU and SiLU are the identity in 32 bits
SHIFT_FACTOR = 4.0  # of the shift to the largest output of the encoder
SPIKE_FACTOR = 1024.0  # of the constant before a normalisation to the largest logit
N_SPIKES = 2
PROBE_ROWS = 8
PROBE_TOKENS = 24
TOLERANCE = 1e-5  # of logits, relative to the largest one
CLS_POOLING_NAMES = {"eurobert": "bos"}  # what others call `cls` in their configuration


@dataclass(frozen=True)
class LinearHead:
    """The last layer: its weight `[labels, hidden size]` and bias `[labels]`."""

    weight: "torch.Tensor"
    bias: "torch.Tensor"

    def __call__(self, pooled: "torch.Tensor") -> "torch.Tensor":
        """Return the logits, `[rows, labels]`."""
        from torch.nn.functional import linear

        return linear(pooled, self.weight, self.bias)


@dataclass(frozen=True)
class Probe:
    """Texts of random tokens, with the vectors and logits that are expected of them."""

    inputs: "dict[str, torch.Tensor]"
    pooled: "torch.Tensor"  # [rows, hidden size]
    logits: "torch.Tensor"  # [rows, labels]

    def is_answered_by(self, model: PretrainedModel) -> bool:
        """Tell whether a classifier gives these logits."""
        import torch

        with torch.no_grad():
            difference = (model(**self.inputs).logits - self.logits).abs().max()
        return float(difference) <= TOLERANCE * max(1.0, float(self.logits.abs().max()))


@dataclass(frozen=True)
class HeadLayers:
    """The layers of a class from the encoder to the logits."""

    between: "list[torch.nn.Linear]"  # [hidden size, hidden size] each
    norms: "list[torch.nn.Module]"
    last: "torch.nn.Linear"  # [labels, hidden size]


def pool_tokens(
    hidden: "torch.Tensor", attention_mask: "torch.Tensor", pooling: Pooling
) -> "torch.Tensor":
    """Turn token vectors `[rows, tokens, hidden size]` into one vector for each row."""
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * mask).sum(1) / mask.sum(1)


def build_stock_classifier(
    encoder: PretrainedModel, head: LinearHead, pooling: Pooling
) -> PretrainedModel | None:
    """Build the class of transformers with this encoder and the logits of a linear head.

    The encoder becomes a part of it and is not copied; it may get a pooler, which is the class's.

    Returns:
        The model, or None if no class of transformers gives these logits.
    """
    probe = build_probe(encoder, head, pooling)
    model = build_empty_classifier(encoder, len(head.bias), pooling)
    layers = find_head_layers(model) if model else None
    if not layers:
        return None
    for fill in list_fillings(layers, head, probe):
        fill()
        if probe.is_answered_by(model):
            return model
    return None


def build_probe(encoder: PretrainedModel, head: LinearHead, pooling: Pooling) -> Probe:
    """Build texts of random tokens, the same ones each time, half of them padded."""
    import torch

    config: PretrainedConfig = encoder.config
    positions = getattr(config, "max_position_embeddings", None) or PROBE_TOKENS
    length = max(2, min(PROBE_TOKENS, positions // 2))
    generator = torch.Generator().manual_seed(0)
    token_ids = torch.randint(config.vocab_size, (PROBE_ROWS, length), generator=generator)
    mask = torch.ones_like(token_ids)
    mask[PROBE_ROWS // 2 :, (length + 1) // 2 :] = 0
    inputs = {"input_ids": token_ids, "attention_mask": mask}
    with torch.no_grad():
        pooled = pool_tokens(encoder(**inputs).last_hidden_state, mask, pooling)
        return Probe(inputs, pooled, head(pooled))


def build_empty_classifier(
    encoder: PretrainedModel, n_labels: int, pooling: Pooling
) -> PretrainedModel | None:
    """Build the class around the encoder, its own layers zero; None if there is none."""
    import torch
    import transformers

    config = configure_classifier(encoder.config, n_labels, pooling)
    try:
        with torch.device("meta"):
            model = transformers.AutoModelForSequenceClassification.from_config(config)
    except (ValueError, TypeError):
        return None
    empty = model.base_model
    if type(empty) is not type(encoder):
        return None
    if getattr(empty, "pooler", None) is not None:
        encoder.pooler = empty.pooler
    setattr(model, model.base_model_prefix, encoder)
    fill_missing_parameters(model)
    return model.eval()


def configure_classifier(
    config: PretrainedConfig, n_labels: int, pooling: Pooling
) -> PretrainedConfig:
    """Copy the encoder's configuration, and set what shapes the head."""
    copied = copy.deepcopy(config)
    copied.num_labels = n_labels
    if hasattr(copied, "classifier_pooling"):
        is_cls = pooling == "cls"
        name = CLS_POOLING_NAMES.get(copied.model_type, pooling) if is_cls else pooling
        copied.classifier_pooling = name
    if hasattr(copied, "classifier_activation") and hasattr(copied, "classifier_bias"):
        copied.classifier_activation = "linear"
        copied.classifier_bias = True
    return copied


def fill_missing_parameters(model: "torch.nn.Module") -> None:
    """Set parameters that have no values yet to 0."""
    import torch

    for path, parameter in list(model.named_parameters()):
        if parameter.is_meta:
            module_path, _, name = path.rpartition(".")
            zeros = torch.nn.Parameter(torch.zeros(parameter.shape))
            setattr(model.get_submodule(module_path), name, zeros)


def find_head_layers(model: PretrainedModel) -> HeadLayers | None:
    """Find the layers from the encoder to the logits; None if they are of other kinds."""
    import torch

    linear = []
    norms = []
    for module in iterate_head_modules(model):
        if isinstance(module, torch.nn.Linear):
            linear.append(module)
        elif list(module.parameters(recurse=False)):
            norms.append(module)
    if not linear or linear[-1].bias is None:
        return None
    return HeadLayers(linear[:-1], norms, linear[-1])


def iterate_head_modules(model: PretrainedModel) -> "Iterator[torch.nn.Module]":
    """Yield the modules outside of the encoder, and those of its pooler."""
    encoder_path = f"{model.base_model_prefix}."
    for path, module in model.named_modules():
        is_in_encoder = f"{path}.".startswith(encoder_path)
        if not is_in_encoder or path.startswith(f"{encoder_path}pooler"):
            yield module


def list_fillings(layers: HeadLayers, head: LinearHead, probe: Probe) -> list[Callable[[], None]]:
    """List the ways in which the layers may give the logits of a linear head."""
    if layers.norms:
        largest = float(probe.logits.abs().max())
        return [partial(fill_around_norm, layers, head, largest)]
    largest = float(probe.pooled.abs().max())
    shift = round_up_to_power(max(MIN_SHIFT, SHIFT_FACTOR * largest))
    return [
        partial(fill_scaled, layers, head, TANH_SCALE),
        partial(fill_shifted, layers, head, shift),
    ]


def fill_scaled(layers: HeadLayers, head: LinearHead, scale: float) -> None:
    """Make the values before the activation small, and the last weights large.

    Without layers between there is nothing to scale.
    """
    for layer in layers.between:
        set_scaled_identity(layer, scale)
    factor = scale if layers.between else 1.0
    set_values(layers.last.weight, head.weight / factor)
    set_values(layers.last.bias, head.bias)


def fill_shifted(layers: HeadLayers, head: LinearHead, shift: float) -> None:
    """Make the values before the activation large and positive, and subtract that at the end."""
    for layer in layers.between:
        set_scaled_identity(layer, 1.0)
        if layer.bias is not None:
            set_values(layer.bias, shift)
    set_values(layers.last.weight, head.weight)
    set_values(layers.last.bias, head.bias.double() - shift * head.weight.double().sum(1))


def fill_around_norm(layers: HeadLayers, head: LinearHead, largest: float) -> None:
    """Compute the logits before the normalisation, beside constants that determine its scale.

    The numbers before it are the logits, minus their sum, and two large constants that sum to 0.
    So their mean is 0, and their standard deviation hardly depends on the logits.
    """
    import torch

    n_labels, hidden_size = head.weight.shape
    if len(layers.between) != 1 or n_labels + 1 + N_SPIKES > hidden_size:
        return
    spike = round_up_to_power(SPIKE_FACTOR * max(1.0, largest) * math.sqrt(n_labels + 1))
    weight = torch.zeros(hidden_size, hidden_size)
    weight[:n_labels] = head.weight
    weight[n_labels] = -head.weight.double().sum(0)
    bias = torch.zeros(hidden_size)
    bias[:n_labels] = head.bias
    bias[n_labels] = -head.bias.double().sum()
    bias[n_labels + 1] = spike
    bias[n_labels + 2] = -spike
    set_values(layers.between[0].weight, weight)
    set_values(layers.between[0].bias, bias)
    for norm in layers.norms:
        set_values(norm.get_parameter("weight"), 1.0)
    deviation = spike * math.sqrt(N_SPIKES / hidden_size)
    set_values(layers.last.weight, deviation * torch.eye(n_labels, hidden_size))
    set_values(layers.last.bias, 0.0)


def set_scaled_identity(layer: "torch.nn.Linear", scale: float) -> None:
    """Have a layer multiply by a number."""
    import torch

    set_values(layer.weight, scale * torch.eye(*layer.weight.shape))
    if layer.bias is not None:
        set_values(layer.bias, 0.0)


def set_values(parameter: "torch.Tensor", values: "torch.Tensor | float") -> None:
    """Set the values of a parameter."""
    import torch

    with torch.no_grad():
        parameter.copy_(torch.as_tensor(values))


def round_up_to_power(value: float) -> float:
    """Return the next power of two, by which a number is multiplied without rounding."""
    return 2.0 ** math.ceil(math.log2(value))
