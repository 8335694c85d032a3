"""LoRA (Hu et al. 2022): the base's weights stay fixed; narrow layers beside them are trained."""

from typing import TYPE_CHECKING

from tasks.core.errors import ConfigError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.train import Lora

if TYPE_CHECKING:
    import torch

BASE_LAYER = ".base_layer."  # peft's name for the layer beside which a narrow one learns
HEAD_NAMES = ("head", "lm_head")  # layers that are trained as they are


def add_lora_layers(network: "torch.nn.Module", config: Lora, seed: int) -> None:
    """Add the narrow layers to the network; they and its head are left to train.

    Raises:
        ConfigError: peft is not installed, or the base has no layer of a name in `layers`.
    """
    import torch

    try:
        import peft
    except ImportError:
        raise ConfigError(
            "train.lora: peft is not installed: pip install 'millrace[lora]', or leave out lora."
        ) from None
    available = list_linear_layers(network)
    for name in config.layers or []:
        if name not in available:
            raise ConfigError(
                f"train.lora.layers: {name!r} is not a linear layer of the base"
                f"{suggest_nearest(name, available)}; they are {', '.join(available)}."
            )
    torch.manual_seed(seed)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.layers or available,
    )
    peft.inject_adapter_in_model(settings, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("head."))


def list_linear_layers(network: "torch.nn.Module") -> list[str]:
    """Return the last names of the base's linear layers, sorted, without the head."""
    names = set()
    for path, layer in network.named_modules():
        name = path.split(".")[-1]
        if is_linear_layer(layer) and name not in HEAD_NAMES:
            names.add(name)
    return sorted(names)


def is_linear_layer(layer: "torch.nn.Module") -> bool:
    """Tell whether the layer is linear; GPT-2's are called Conv1D."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, torch.nn.Linear | Conv1D)


def merge_lora_layers(network: "torch.nn.Module") -> None:
    """Add what the narrow layers learnt to the base's weights and remove the layers."""
    layers = [(name, layer) for name, layer in network.named_modules() if hasattr(layer, "lora_A")]
    for name, layer in layers:
        layer.merge()  # type: ignore[operator]
        network.set_submodule(name, layer.get_base_layer())  # type: ignore[operator]
    if layers:
        network.requires_grad_(requires_grad=True)


def name_like_lora_layers(
    weights: "dict[str, torch.Tensor]", network: "torch.nn.Module"
) -> "dict[str, torch.Tensor]":
    """Return merged weights by the names of a network that may have narrow layers.

    The narrow layers keep their own weights, with which they begin and add nothing.
    """
    own = network.state_dict()
    narrow = {name: value for name, value in own.items() if "lora_" in name}
    plain_names = {name.replace(BASE_LAYER, "."): name for name in own if name not in narrow}
    renamed = {plain_names.get(name, name): value for name, value in weights.items()}
    return {**renamed, **narrow}
