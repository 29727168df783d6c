"""What a forward pass must know of its device: the device's kind, and whether float32 is computed in full."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def device_kind(device: torch.device) -> str:
    """Name the kind of a device: the type of the GPU as its driver calls it, or `cpu`.

    Members have one speed, and one way of rounding, on each kind.
    """
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute convolutions in float32 with all of its 24 bits on GPUs too.

    By default cuDNN rounds their inputs to the 11 bits of TF32. A column of a float32 member may hold
    rows of GPUs and of CPUs, so they must agree; a member that may round asks for it by its precision.
    """
    allows_tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allows_tf32
