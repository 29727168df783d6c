"""Tensors from files of other projects: read without running code, unwrapped, and put into a network."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from ensemble.checkpoints.file import Weights, check_fit
from ensemble.errors import CheckpointError

# Where training scripts put the weights; averaged ones first, because they are what was published.
_WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
)
_PREFIXES = ("module.", "_orig_mod.", "model.")
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
# torchvision's DenseNets were trained when a module's name could hold a dot.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")


def read_state(path: Path) -> Weights:
    """Read the tensors of a checkpoint by name, on the CPU; averaged weights where there are both.

    DataParallel's and torch.compile's prefixes are taken off. Nothing in the file is run.

    Raises:
        CheckpointError: The file cannot be read without running code, or holds no weights.
    """
    content: Any = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state = _unwrap(path, content)
    # Written by torch's AveragedModel beside the weights.
    state.pop("n_averaged", None)
    for prefix in _PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def put(network: nn.Module, state: Mapping[str, torch.Tensor], path: Path, what: str) -> nn.Module:
    """Load weights into a network without auxiliary heads, and set it to evaluation mode.

    Raises:
        CheckpointError: The weights are of another network.
    """
    expected = network.state_dict()
    fitting = {
        _OLD_DENSENET.sub(r"\1\2", name): tensor
        for name, tensor in state.items()
        if name in expected or not name.startswith(_AUXILIARY_HEADS)
    }
    # A count that old files lack and that evaluation does not read.
    counts = {name: expected[name] for name in expected if name.endswith(".num_batches_tracked")}
    check_fit(path, counts | fitting, expected, what)
    network.load_state_dict(counts | fitting)
    return network.eval()


def _read_safetensors(path: Path) -> Weights:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error


def _read_pickle(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} cannot be read without running code that is in it: {_unsafe(path, error)}. It was "
            "not run. Where you trust the file, convert it once: load it with "
            "torch.load(path, weights_only=False), and write its state_dict with "
            "safetensors.torch.save_file."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unsafe(path: Path, error: pickle.UnpicklingError) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except (RuntimeError, ValueError, pickle.UnpicklingError):
        names = []
    return f"it asks for {', '.join(names)}" if names else str(error).splitlines()[0].rstrip(".")


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return CheckpointError(
        f"{path}: cannot be read as weights ({reason}). Expected a .safetensors file, or a .pth or .pt "
        "file that torch.save wrote of a state_dict."
    )


def _unwrap(path: Path, content: Any) -> Weights:
    while isinstance(content, Mapping):
        inner = next((k for k in _WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = content[inner]
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{path} holds {type(content).__name__}, and no tensors by name. Expected a state_dict, or "
            f"one under {', '.join(_WRAPPERS)}."
        )
    strange = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        raise CheckpointError(
            f"{path} holds more than tensors by name: {', '.join(strange[:5])}. Expected a state_dict, "
            f"or one under {', '.join(_WRAPPERS)}."
        )
    return {str(name): value for name, value in content.items()}
