"""Identities by content: the SHA-256 of a value, and the library versions that belong into it."""

import json
from collections.abc import Collection
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ensemble.config import Config

# Libraries beside torch's, by the kinds of architecture that can run on them.
_OTHERS = {"timm": ("timm", "factory"), "onnxruntime": ("onnx", "factory")}
# Other distributions of the same library.
_VARIANTS = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")}


def library_versions(architecture: str) -> dict[str, str]:
    """Look up the versions of the libraries that can change a forward pass by a bit or more.

    Args:
        architecture: Name of the network's architecture; timm/… and onnx add a library of their own. A
            factory may use either, so it adds both where they are installed.
    """
    kind = architecture.partition("/")[0]
    versions = {name: _version(name) for name in ("torch", "torchvision")}
    for library, kinds in _OTHERS.items():
        if kind in kinds and (installed := _find_version(library)) is not None:
            versions[library] = installed
    return versions


@cache
def _version(name: str) -> str:
    # Kept, because reading a distribution's metadata takes milliseconds, and a plan asks for each block.
    return version(name)


@cache
def _find_version(library: str) -> str | None:
    """Look up a version by the first distribution that has the library; none if it is not installed."""
    for name in (library, *_VARIANTS.get(library, ())):
        try:
            return f"{name} {_version(name)}" if name != library else _version(name)
        except PackageNotFoundError:
            continue
    return None


def fingerprint(value: object) -> str:
    """Compute the SHA-256 of a value's canonical JSON, in 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()


def dump_for_identity(config: Config, later: Collection[str]) -> dict[str, Any]:
    """Dump settings for a fingerprint, so that a new setting at its default changes none.

    Args:
        config: The settings.
        later: Names of settings that came after fingerprints were first taken; group.name for one of a
            group of settings, which a group of another kind need not have.
    """
    document = config.model_dump(mode="json")
    for full_name in later:
        group, _, name = full_name.rpartition(".")
        owner = getattr(config, group) if group else config
        field = None if owner is None else type(owner).model_fields.get(name)
        if field is not None and getattr(owner, name) == field.get_default(
            call_default_factory=True
        ):
            del (document[group] if group else document)[name]
    return document
