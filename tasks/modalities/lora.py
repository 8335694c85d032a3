"""LoRA (Hu et al. 2022): the weights of a base stay as they are, and beside each linear layer of it a narrow one learns what is to be added."""

from typing import TYPE_CHECKING, Any

from tasks.core.errors import ConfigError
from tasks.core.suggest import suggest_nearest
from tasks.recipe.train import Lora

if TYPE_CHECKING:
    import torch


def add_lora_layers(network: "torch.nn.Module", section: Lora, seed: int) -> None:
    """Put the narrow layers into the network; they and its head are left to train. Raises Mistake where peft is missing, or no layer has the name given."""
    import torch

    try:
        import peft
    except ImportError:
        raise ConfigError(
            "train.lora: peft is not installed: pip install 'millrace[lora]', or leave out lora."
        ) from None
    names = {
        name.split(".")[-1]
        for name, layer in network.named_modules()
        if is_linear_layer(layer) and name.split(".")[-1] not in ("head", "lm_head")
    }
    for name in section.layers or []:
        if name not in names:
            raise ConfigError(
                f"train.lora.layers: {name!r} is not a linear layer of the base{suggest_nearest(name, sorted(names))}; they are {', '.join(sorted(names))}."
            )
    torch.manual_seed(seed)
    settings = peft.LoraConfig(
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=section.layers or sorted(names),
    )
    peft.inject_adapter_in_model(settings, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith("head."))


def is_linear_layer(layer: Any) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, (torch.nn.Linear, Conv1D))


def merge_lora_layers(network: "torch.nn.Module") -> None:
    """Add what was learnt to the weights and take the narrow layers out: what is left is the network as it was before `add`."""
    layers = [(name, layer) for name, layer in network.named_modules() if hasattr(layer, "lora_A")]
    for name, layer in layers:
        layer.merge()  # type: ignore[operator]
        network.set_submodule(name, layer.get_base_layer())  # type: ignore[operator]
    if layers:
        network.requires_grad_(True)
