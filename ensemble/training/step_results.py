"""Losses and correct answers of the steps of an epoch, which the host reads without waiting for the step under way."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64

from ensemble.errors import DivergedError

CHECK_STEPS = 32


@dataclass(frozen=True)
class _Copy:
    """A copy of results to the host, which may still be under way.

    Attributes:
        results: Loss and number of correct answers of each step.
        is_done: When the device has written them; None on a CPU, where they are there at once.
    """

    results: Float64[torch.Tensor, "2 step"]
    is_done: torch.cuda.Event | None


class StepResults:
    """Collects the loss and the correct answers of each step of an epoch where they are computed.

    A step only adds its results to a list. After every `CHECK_STEPS` (32) steps they are copied to the
    host, and on a GPU that copy is looked at when the next one begins, since by then nothing has to
    wait for it. A loss that is not finite therefore stops the training within 32 steps on a CPU and
    64 on a GPU, and at the latest when the epoch ends, before anything of it is kept.

    Args:
        epoch: Number of the epoch, from 0.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._steps: list[tuple[int, float]] = []
        self._waiting: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._copy: _Copy | None = None
        self._losses_nats: list[float] = []
        self._num_correct = 0

    def add(
        self,
        loss_nats: Float[torch.Tensor, ""],
        num_correct: Int64[torch.Tensor, ""],
        num_images: int,
        rate: float,
    ) -> None:
        """Add the results of the next step.

        Args:
            loss_nats: Mean loss of the batch.
            num_correct: Number of images of the batch whose class was predicted.
            num_images: Number of images in the batch.
            rate: Learning rate of the step.

        Raises:
            DivergedError: The loss of an earlier step is not finite, or on a CPU that of this one.
        """
        self._steps.append((num_images, rate))
        self._waiting.append((loss_nats, num_correct))
        if len(self._waiting) == CHECK_STEPS:
            self._begin_copy()

    def mean(self) -> tuple[float, float]:
        """Wait for the last step, and return the mean loss over all images (nats) and the share of correct answers.

        Raises:
            DivergedError: The loss of a step is not finite.
        """
        if self._waiting:
            self._begin_copy()
        self._end_copy()
        sizes = [num_images for num_images, _ in self._steps]
        loss_sum = 0.0
        for loss_nats, num_images in zip(self._losses_nats, sizes, strict=True):
            loss_sum += loss_nats * num_images
        return loss_sum / sum(sizes), self._num_correct / sum(sizes)

    def state(self) -> dict[str, object]:
        """Wait for the last step, and return all results so far as plain values.

        Raises:
            DivergedError: The loss of a step is not finite.
        """
        if self._waiting:
            self._begin_copy()
        self._end_copy()
        return {
            "steps": self._steps,
            "losses_nats": self._losses_nats,
            "num_correct": self._num_correct,
        }

    @classmethod
    def restore(cls, epoch: int, state: Mapping[str, Any]) -> "StepResults":
        """Make the results of an epoch that was interrupted from what `state` returned."""
        results = cls(epoch)
        results._steps = [(int(num_images), float(rate)) for num_images, rate in state["steps"]]
        results._losses_nats = [float(loss) for loss in state["losses_nats"]]
        results._num_correct = int(state["num_correct"])
        return results

    def _begin_copy(self) -> None:
        self._end_copy()
        losses, counts = zip(*self._waiting, strict=True)
        self._waiting = []
        results = torch.stack([torch.stack(losses).double(), torch.stack(counts).double()])
        if results.device.type != "cuda":
            self._copy = _Copy(results, None)
            self._end_copy()
            return
        pinned = torch.empty(results.shape, dtype=results.dtype, pin_memory=True)
        pinned.copy_(results, non_blocking=True)
        # Blocking, which is to sleep: a process that spins takes a core from those that decode.
        is_done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        is_done.record(torch.cuda.current_stream(results.device))
        self._copy = _Copy(pinned, is_done)

    def _end_copy(self) -> None:
        if self._copy is None:
            return
        if self._copy.is_done is not None:
            self._copy.is_done.synchronize()
        losses, counts = self._copy.results.tolist()
        self._copy = None
        for loss_nats in losses:
            self._check(loss_nats)
            self._losses_nats.append(loss_nats)
        self._num_correct += int(sum(counts))

    def _check(self, loss_nats: float) -> None:
        if not math.isfinite(loss_nats):
            step = len(self._losses_nats)
            raise DivergedError(
                f"the loss is {loss_nats} in epoch {self._epoch}, step {step}, at learning rate "
                f"{self._steps[step][1]:.3g}; it must be finite. "
                "Lower optimizer.lr or lengthen the warm-up."
            )
