"""Tensors from files of other projects: read without running code, unwrapped, and put into a network."""

import argparse
import pickle
import re
import struct
import zipfile
from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from ensemble.checkpoints.file import Weights, check_fit
from ensemble.checkpoints.first_bytes import read_first_bytes, tell_other_content
from ensemble.checkpoints.shard_index import LENGTH_BYTES, is_index, read_index
from ensemble.errors import CheckpointError
from ensemble.files import sha256_of

# Where training scripts put the weights; averaged ones first, because they are what was published.
_AVERAGED = re.compile(r"(?:^|_)(?:ema|swa|averaged)(?:_|$)")
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
# What wrappers of a network put before or between the names of its parts.
_PREFIXES = ("module.", "model.", "net.", "network.")
# What DataParallel puts before the names of a part that it was put around, as VGG's features in PyTorch's
# own ImageNet script, or before some of the names.
_PARALLEL = re.compile(r"(?:^|(?<=\.))module\.")
_INFIX = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Weights of a loss that a training script kept as a part of its network.
_LOSS = re.compile(r"(?:^|\.)(?:criterion|loss|loss_fn|loss_func|loss_function)\.")
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
_COUNT = ".num_batches_tracked"
# torchvision's DenseNets were trained when a module's name could hold a dot.
_OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\.\w+)$")
# How many mappings scripts put around the weights, at most.
_MOST_WRAPPERS = 4
# How the archive and the older file of torch.save begin.
_PICKLES = (b"PK\x03\x04", b"\x80")
# What torch.load raises on damaged or hostile files, beside pickle's own error.
_LOAD_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
)


def read_state(path: Path) -> Weights:
    """Read the tensors of a checkpoint by name, on the CPU; averaged weights where there are both.

    The format is told by the first bytes, not by the file's name. Names that torch.compile and FSDP
    put between others are taken off. Nothing in the file is run.

    Args:
        path: A safetensors file, what torch.save wrote, or the index of a checkpoint in shards.

    Raises:
        CheckpointError: The file cannot be read without running code, or holds no weights.
    """
    content = _read_index(path) if is_index(path) else _read_file(path)
    state = _unwrap(path, content)
    # Written by torch's AveragedModel beside the weights.
    state.pop("n_averaged", None)
    state = {_INFIX.sub("", name): tensor for name, tensor in state.items()}
    return {name: _check_tensor(path, name, tensor) for name, tensor in state.items()}


def digest_state(path: Path) -> str:
    """Compute the SHA-256 of a checkpoint's file; that of an index covers its shards too.

    Raises:
        CheckpointError: The index of shards is damaged.
        OSError: A file cannot be read.
    """
    if not is_index(path):
        return sha256_of(path)
    digest = sha256(sha256_of(path).encode())
    for shard in sorted(set(_shards(path).values())):
        digest.update(f"{shard.name}{sha256_of(shard)}".encode())
    return digest.hexdigest()


def select_network(state: Weights, expected: Collection[str]) -> tuple[Weights, tuple[str, ...]]:
    """Take the tensors of a network out of a state that has them below a prefix, beside others.

    Args:
        state: Tensors by name, as `read_state` gives them.
        expected: Names of the network's tensors. They decide the prefix; where they are not all below
            one, a network's original names may be, and the prefixes of common wrappers are taken off.

    Returns:
        The network's tensors under its own names, and the names of the tensors that were ignored.

    Raises:
        CheckpointError: Two networks are in the state, each of which fits.
    """
    needed = {name for name in expected if not name.endswith(_COUNT)}
    losses = {name for name in state if _LOSS.search(name) and name not in needed}
    state = {name: tensor for name, tensor in state.items() if name not in losses}
    for names in (state, _without_parallel(state)):
        if not needed or needed <= names.keys():
            return names, tuple(sorted(losses))
        last = max(needed)
        prefixes = [name.removesuffix(last) for name in names if name.endswith(f".{last}")]
        fitting = [p for p in prefixes if all(f"{p}{name}" in names for name in needed)]
        if len(fitting) > 1:
            raise CheckpointError(
                f"the weights hold {len(fitting)} networks that fit, below {', '.join(sorted(fitting))}. "
                "Expected one; save the state_dict of the one that is meant."
            )
        if fitting:
            below, others = _below(names, fitting[0])
            return below, tuple(sorted({*losses, *others}))
    while (prefix := next((p for p in _PREFIXES if _is_common(p, state)), None)) is not None:
        state, _ = _below(state, prefix)
    return state, tuple(sorted(losses))


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
    counts = {name: expected[name] for name in expected if name.endswith(_COUNT)}
    check_fit(path, counts | fitting, expected, what)
    network.load_state_dict(counts | fitting)
    return network.eval()


def _below(state: Weights, prefix: str) -> tuple[Weights, tuple[str, ...]]:
    below = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    return below, tuple(sorted(name for name in state if not name.startswith(prefix)))


def _without_parallel(state: Weights) -> Weights:
    names = {name: _PARALLEL.sub("", name) for name in state}
    if len(set(names.values())) < len(names):
        return state  # two networks, or two parts, become one: nothing says which is meant
    return {names[name]: tensor for name, tensor in state.items()}


def _is_common(prefix: str, state: Weights) -> bool:
    return bool(state) and all(name.startswith(prefix) for name in state)


def _read_file(path: Path) -> Any:
    try:
        start = read_first_bytes(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    if (what := tell_other_content(start)) is not None:
        raise CheckpointError(f"{path}: cannot be read as weights: it {what}.")
    if _is_safetensors(path, start):
        return _read_safetensors(path)
    return _read_pickle(path)


def _is_safetensors(path: Path, start: bytes) -> bool:
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if start[LENGTH_BYTES : LENGTH_BYTES + 1] == b"{" and length < path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not start.startswith(_PICKLES)


def _read_safetensors(path: Path) -> Weights:
    try:
        return safetensors.torch.load_file(path)
    except (OSError, ValueError, KeyError, safetensors.SafetensorError) as error:
        raise _unreadable(path, error) from error


def _read_pickle(path: Path) -> Any:
    _refuse_other_archive(path)
    try:
        # timm's and torchvision's training scripts save their arguments. A Namespace only holds data.
        with path.open("rb") as file, torch.serialization.safe_globals([argparse.Namespace]):
            # A file and not its path, whose ending torch would take for the format.
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} cannot be read without running code that is in it: {_unsafe(path, error)}. It was "
            "not run. Where you trust the file, convert it once: load it with "
            "torch.load(path, weights_only=False), and write its state_dict with "
            "safetensors.torch.save_file."
        ) from error
    except _LOAD_ERRORS as error:
        raise _unreadable(path, error) from error


def _refuse_other_archive(path: Path) -> None:
    """Refuse a ZIP archive that torch.save did not write; torch's own words would not say what it is."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (*_LOAD_ERRORS, NotImplementedError):
        return  # no archive, or a damaged one, of which torch says what is wrong
    what = None
    if "constants.pkl" in names:
        what = (
            "is a program of TorchScript. Give the state_dict of the network, or export it to ONNX"
        )
    elif names and all(name.endswith(".npy") for name in names):
        what = (
            "is an archive of NumPy arrays. Give a state_dict that torch.save or safetensors wrote"
        )
    elif "data.pkl" not in names:
        what = f"is a ZIP archive of {len(names)} other files. Unpack it, and give the file inside"
    if what is not None:
        raise CheckpointError(f"{path}: cannot be read as weights: it {what}.")


def _unsafe(path: Path, error: pickle.UnpicklingError) -> str:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except (*_LOAD_ERRORS, pickle.UnpicklingError):
        names = []
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    return f"it asks for {', '.join(names)}" if names else reason


def _read_index(path: Path) -> Weights:
    state: Weights = {}
    shards = _shards(path)
    for shard in sorted(set(shards.values())):
        tensors = _unwrap(shard, _read_file(shard))
        names = [name for name, place in shards.items() if place == shard]
        if lacking := [name for name in names if name not in tensors]:
            raise CheckpointError(
                f"{shard} lacks {', '.join(sorted(lacking)[:3])}, which {path.name} says is in it. Copy "
                "the shards again, all of one checkpoint."
            )
        state |= {name: tensors[name] for name in names}
    return state


def _shards(path: Path) -> dict[str, Path]:
    """Find the file that each tensor is in."""
    shards = read_index(path)
    for file in sorted(set(shards.values())):
        if not (path.parent / file).is_file():
            raise CheckpointError(
                f"{path} is the index of a checkpoint in {len(set(shards.values()))} shards, and "
                f"{file} is not beside it. Copy all shards into that folder."
            )
    return {name: path.parent / file for name, file in shards.items()}


def _check_tensor(path: Path, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """Refuse what stands for numbers that are not in the file."""
    if tensor.is_meta or tensor.layout != torch.strided:
        kind = "the device meta, without numbers" if tensor.is_meta else f"layout {tensor.layout}"
        raise CheckpointError(
            f"{path}: {name} has {kind}. Expected dense tensors; save the state_dict of the network "
            "with its weights loaded."
        )
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(
            f"{path}: {name} is said to have {tensor.numel()} numbers, and the file has "
            f"{tensor.untyped_storage().nbytes() // tensor.element_size()} of them. Expected all numbers "
            "in the file; save it with each tensor made contiguous."
        )
    return tensor


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    # torch goes on to advise what runs the code in the file.
    reason = reason.partition(" In PyTorch 2.6")[0].rstrip(".")
    return CheckpointError(
        f"{path}: cannot be read as weights ({reason}). Expected a .safetensors file, or a .pth or .pt "
        "file that torch.save wrote of a state_dict."
    )


def _unwrap(path: Path, content: Any) -> Weights:
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(content, Mapping):
            break
        holding = [key for key, value in content.items() if _holds_state(key, value)]
        averaged = [key for key in holding if _AVERAGED.search(str(key).lower())]
        known = averaged or [key for key in _WRAPPERS if key in holding][:1]
        states = [key for key in holding if _is_state(content[key])] or holding
        if not states:  # one that holds more than tensors, which the message names
            states = [key for key in _WRAPPERS if isinstance(content.get(key), Mapping)][:1]
        if len(known or states) > 1:
            raise CheckpointError(
                f"{path} holds {len(known or states)} sets of tensors by name: "
                f"{', '.join(map(str, (known or states)[:5]))}. "
                f"Expected one, or one under {', '.join(_WRAPPERS)}; save the one that is meant."
            )
        if not states:
            break
        content = content[(known or states)[0]]
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


def _holds_state(key: object, value: object, depth: int = _MOST_WRAPPERS) -> bool:
    """Tell whether weights lie in a value, or in a mapping within it; what an optimizer keeps is none."""
    if not isinstance(value, Mapping) or not isinstance(key, str) or "optim" in key.lower():
        return False
    return _is_state(value) or (
        depth > 1 and any(_holds_state(name, inner, depth - 1) for name, inner in value.items())
    )


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(tensor, torch.Tensor) for tensor in value.values())
    )
