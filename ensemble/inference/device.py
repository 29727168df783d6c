"""What a forward pass must know of its device: the device's kind, and whether float32 is computed in full."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ensemble.errors import ConfigError


def open_device(name: str) -> torch.device:
    """Give a device by the name that torch has for it.

    Raises:
        ConfigError: The name is not one of torch's, or this machine has no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"no device {name!r}; expected cpu, cuda or cuda:NUMBER.") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ConfigError(
            f"no device {name!r}: torch {torch.__version__} sees {count} GPUs here. Use device='cpu', "
            "or a build of torch that fits the driver."
        )
    return device


def device_kind(device: torch.device) -> str:
    """Name the kind of a device: the type of the GPU as its driver calls it, or `cpu`.

    Members have one speed, and one way of rounding, on each kind.
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute convolutions and matrix products in float32 with all of its 24 bits on GPUs too.

    By default cuDNN rounds the inputs of convolutions to the 11 bits of TF32, and a caller may have
    asked for that in matrix products. A column of a float32 member may hold rows of GPUs and of CPUs,
    so they must agree; a member that may round asks for it by its precision.
    """
    matmul = torch.get_float32_matmul_precision()
    with _full_convolutions():
        if matmul != "highest":
            torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            if matmul != "highest":
                torch.set_float32_matmul_precision(matmul)


@contextmanager
def _full_convolutions() -> Iterator[None]:
    try:
        allows_tf32 = torch.backends.cudnn.allow_tf32
    except RuntimeError:
        # The caller chose by the settings of torch 2.9, after which the older one cannot be read.
        settings = torch.backends.cudnn.conv  # type: ignore[attr-defined]
        precision = settings.fp32_precision
        settings.fp32_precision = "ieee"
        try:
            yield
        finally:
            settings.fp32_precision = precision
        return
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allows_tf32
