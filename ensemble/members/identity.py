"""Identities by content: the SHA-256 of a value, and the library versions that belong into it."""

import json
from hashlib import sha256
from importlib.metadata import version


def library_versions(architecture: str) -> dict[str, str]:
    """Look up the versions of the libraries that can change a forward pass by a bit or more.

    Args:
        architecture: Name of the network's architecture; timm/… and onnx add a library of their own.
    """
    extra = {"timm": "timm", "onnx": "onnxruntime"}.get(architecture.partition("/")[0])
    names = ("torch", "torchvision", *([extra] if extra else []))
    return {name: version(name) for name in names}


def fingerprint(value: object) -> str:
    """Compute the SHA-256 of a value's canonical JSON, in 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()
