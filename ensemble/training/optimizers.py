"""Optimisers by name, and the state that lets a training go on."""

from collections.abc import Mapping
from typing import Any

import torch
from timm.optim import create_optimizer_v2
from torch import nn

from ensemble.errors import ConfigError
from ensemble.training.optimizer_settings import NamedOptimizerConfig, SgdConfig
from ensemble.training.paper_sgd import PaperSgd
from ensemble.training.recipe import RecipeConfig

# Blocks of layers that a layer decay tells apart, as many as a common vision transformer has.
DEPTH_BLOCKS = 12

# Begins the names of tensors that belong to a group of parameters, as Lamb's number of steps.
_GROUP = "group-"

Tensors = dict[str, torch.Tensor]


def build_optimizer(network: nn.Module, recipe: RecipeConfig) -> torch.optim.Optimizer:
    """Build the optimiser of a recipe, with a rate for each depth where the recipe wants it.

    Raises:
        ConfigError: The optimiser does not know one of its options.
    """
    config = recipe.optimizer
    parameters: list[Any] = [p for p in network.parameters() if p.requires_grad]
    if recipe.layer_decay != 1:
        parameters = _group_by_depth(network, recipe.layer_decay)
    if isinstance(config, NamedOptimizerConfig):
        return _build_named(parameters, config)
    if isinstance(config, SgdConfig) and config.rule == "paper":
        return PaperSgd(parameters, config.lr, config.momentum, config.weight_decay)
    if isinstance(config, SgdConfig):
        return torch.optim.SGD(
            parameters,
            lr=config.lr,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
        )
    return torch.optim.AdamW(
        parameters,
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
    )


def _build_named(parameters: list[Any], config: NamedOptimizerConfig) -> torch.optim.Optimizer:
    try:
        optimizer: torch.optim.Optimizer = create_optimizer_v2(
            parameters,
            opt=config.name,
            lr=config.lr,
            weight_decay=config.weight_decay,
            filter_bias_and_bn=False,
            **config.options,
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"timm cannot build the optimiser {config.name!r}: {error}. Correct optimizer.options."
        ) from error
    return optimizer


def _group_by_depth(network: nn.Module, layer_decay: float) -> list[dict[str, Any]]:
    """Group parameters by depth, each group with the factor of its learning rate.

    timm's grouping needs a network of timm's; this one goes by the order of the parameters.
    """
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = []
    for block in range(DEPTH_BLOCKS):
        part = slice(
            block * len(parameters) // DEPTH_BLOCKS, (block + 1) * len(parameters) // DEPTH_BLOCKS
        )
        if parameters[part]:
            scale = layer_decay ** (DEPTH_BLOCKS - 1 - block)
            groups.append({"params": parameters[part], "lr_scale": scale})
    return groups


def split_state(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """Split the state of an optimiser into tensors by name, and plain values that JSON can hold."""
    state = optimizer.state_dict()
    tensors: Tensors = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}/{name}"] = value
            elif value is not None:
                values.setdefault(str(index), {})[name] = value
    groups = []
    for number, group in enumerate(state["param_groups"]):
        own = {name: value for name, value in group.items() if name != "params"}
        for name, value in own.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{_GROUP}{number}/{name}"] = value
        groups.append({n: v for n, v in own.items() if not isinstance(v, torch.Tensor)})
    return tensors, {"values": values, "groups": groups}


def join_state(
    optimizer: torch.optim.Optimizer, tensors: Tensors, plain: Mapping[str, Any]
) -> None:
    """Load the state that `split_state` returned into an equal optimiser.

    Raises:
        KeyError: The state is of another optimiser.
        ValueError: The state is of other parameters.
    """
    state: dict[int, dict[str, Any]] = {}
    groups = optimizer.state_dict()["param_groups"]
    for key, tensor in tensors.items():
        index, name = key.split("/")
        if index.startswith(_GROUP):
            groups[int(index.removeprefix(_GROUP))][name] = tensor
        else:
            state.setdefault(int(index), {})[name] = tensor
    for index, entries in plain["values"].items():
        state.setdefault(int(index), {}).update(entries)
    for group, kept in zip(groups, plain["groups"], strict=True):
        for name, value in kept.items():
            # JSON knows no tuples.
            group[name] = tuple(value) if isinstance(group.get(name), tuple) else value
    optimizer.load_state_dict({"state": state, "param_groups": groups})
