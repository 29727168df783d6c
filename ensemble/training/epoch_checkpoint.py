"""The checkpoint of a training under way: a file to go on from, and the weights of the best epoch.

It is written after each epoch, and within one every so many seconds. On a CPU, a training that goes on
from the file ends with the same weights as an uninterrupted one, wherever it stopped.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from ensemble.checkpoints import file as checkpoint
from ensemble.errors import CheckpointError
from ensemble.training.loop import EpochLog, Training
from ensemble.training.optimizers import join_state, split_state
from ensemble.training.step_results import StepResults

# Number of errors, then the mean loss in nats; the smaller one is better.
Verdict = tuple[int, float]


class EpochCheckpoint:
    """Writes a file after each epoch and within it, and keeps the best weights if there is a judge.

    Args:
        path: File to go on from; `forget` removes it.
        judge: Judges the network on images that it is not trained on; the last epoch's weights stay
            if None.
        patience: Number of epochs without a better verdict after which the training ends; never if None.
        num_judged: Number of images that the judge looks at.
        keep_best: Whether the training ends with the weights of the best epoch; with the last ones if not.
        every_s: Seconds after which the file is written again within an epoch.
        on_epoch: Called with the number of epochs done and the network, before the file says so.
    """

    def __init__(
        self,
        path: Path,
        judge: Callable[[torch.nn.Module], Verdict] | None = None,
        patience: int | None = 1,
        *,
        num_judged: int = 1,
        keep_best: bool = True,
        every_s: float = float("inf"),
        on_epoch: Callable[[int, torch.nn.Module], None] | None = None,
    ) -> None:
        self._path, self._judge, self._patience = path, judge, patience
        self._num_judged, self._keep_best = num_judged, keep_best
        self._every_s, self._written_at = every_s, time.monotonic()
        self._on_epoch = on_epoch
        self._best: tuple[Verdict, int, checkpoint.Weights] | None = None

    @property
    def best_epoch(self) -> int | None:
        """Number of epochs behind the weights that stay, 0 for the initial ones; None where the last ones do."""
        return None if self._best is None or not self._keep_best else self._best[1]

    def begin(self, training: Training) -> bool:
        """Restore the training from the file, or else judge the initial weights; tell whether to train an epoch.

        Raises:
            CheckpointError: The file is damaged, or belongs to another network.
        """
        if self._path.exists():
            self._restore(training)
        else:
            self._compare(training)
        return self._is_patient(training)

    def keep_step(self, training: Training) -> None:
        """Write the file within an epoch, if it is time to."""
        if time.monotonic() - self._written_at >= self._every_s:
            self._publish(training)

    def keep(self, training: Training) -> bool:
        """Judge an epoch and write the file; tell whether to train another epoch."""
        self._compare(training)
        if self._on_epoch is not None:
            self._on_epoch(len(training.log), training.network)
        self._publish(training)
        return self._is_patient(training)

    def end(self, training: Training) -> None:
        """Load the best weights into the network, if there is a judge."""
        if self._best is not None and self._keep_best:
            training.network.load_state_dict(self._best[2])

    def forget(self) -> None:
        """Remove the file, once the trained weights are published."""
        self._path.unlink(missing_ok=True)

    def _is_patient(self, training: Training) -> bool:
        if self._best is None or self._patience is None:
            return True
        return len(training.log) - self._best[1] < self._patience

    def _compare(self, training: Training) -> None:
        if self._judge is None:
            return
        verdict = self._judge(training.network)
        training.network.train()
        if training.log:
            errors, loss_nats = verdict
            training.log[-1] = replace(
                training.log[-1],
                validation_loss_nats=loss_nats,
                validation_accuracy=1 - errors / self._num_judged,
            )
        if self._best is None or verdict < self._best[0]:
            weights = {n: t.detach().clone() for n, t in training.network.state_dict().items()}
            self._best = (verdict, len(training.log), weights)

    def _publish(self, training: Training) -> None:
        tensors = {f"network/{n}": t for n, t in training.network.state_dict().items()}
        state, plain = split_state(training.optimizer)
        tensors |= {f"optimizer/{name}": tensor for name, tensor in state.items()}
        if training.average is not None:
            average = training.average.state_dict()
            tensors |= {f"average/{name}": tensor for name, tensor in average.items()}
        if training.steps_done:
            tensors["rng/epoch"] = training.epoch_began
        tensors["rng/order"] = training.generator.get_state()
        tensors["rng/cpu"] = torch.get_rng_state()
        if (device := _cuda_device(training)) is not None:
            tensors["rng/cuda"] = torch.cuda.get_rng_state(device)
        best = None
        if self._best is not None:
            tensors |= {f"best/{name}": tensor for name, tensor in self._best[2].items()}
            best = self._best[:2]
        metadata = {
            "parts": str(training.step.parts),
            "optimizer": json.dumps(plain),
            "scaler": json.dumps(training.step.scaler.state_dict()),
            "epoch": json.dumps(_epoch_under_way(training)),
            "best": json.dumps(best),
            "log": json.dumps([asdict(epoch) for epoch in training.log]),
        }
        checkpoint.save_weights(tensors, self._path, metadata)
        self._written_at = time.monotonic()

    def _restore(self, training: Training) -> None:
        tensors, metadata = checkpoint.load(self._path)
        try:
            training.network.load_state_dict(_below(tensors, "network/"))
            plain = json.loads(metadata["optimizer"])
            join_state(training.optimizer, _below(tensors, "optimizer/"), plain)
            if training.average is not None:
                training.average.load_state_dict(_below(tensors, "average/"))
            training.generator.set_state(tensors["rng/order"])
            torch.set_rng_state(tensors["rng/cpu"])
            if (device := _cuda_device(training)) is not None and "rng/cuda" in tensors:
                torch.cuda.set_rng_state(tensors["rng/cuda"], device)
            training.step.parts = int(metadata["parts"])
            training.step.scaler.load_state_dict(json.loads(metadata["scaler"]))
            training.log = [EpochLog(**epoch) for epoch in json.loads(metadata["log"])]
            if (epoch := json.loads(metadata["epoch"])) is not None:
                training.epoch_began = tensors["rng/epoch"]
                training.steps_done, training.seconds = epoch["steps_done"], epoch["seconds"]
                training.results = StepResults.restore(len(training.log), epoch["results"])
            if (best := json.loads(metadata["best"])) is not None:
                (errors, loss), best_epoch = best
                self._best = ((errors, loss), best_epoch, _below(tensors, "best/"))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{self._path} is not a training to go on with ({error!r}). Remove it to train anew."
            ) from error


def _below(tensors: checkpoint.Weights, prefix: str) -> checkpoint.Weights:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _epoch_under_way(training: Training) -> dict[str, Any] | None:
    if not training.steps_done:
        return None
    return {
        "steps_done": training.steps_done,
        "seconds": training.seconds,
        "results": training.results.state(),
    }


def _cuda_device(training: Training) -> torch.device | None:
    device = next(training.network.parameters()).device
    return device if device.type == "cuda" else None
