"""ensemble / members / identity: say here what this file is responsible for."""

import json
from hashlib import sha256
from importlib.metadata import version


def library_versions(architecture: str) -> dict[str, str]:
    """Versions of the libraries that can change a forward pass by a bit or more."""
    extra = {"timm": "timm", "onnx": "onnxruntime"}.get(architecture.partition("/")[0])
    names = ("torch", "torchvision", *([extra] if extra else []))
    return {name: version(name) for name in names}


def fingerprint(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(text.encode()).hexdigest()
