"""The checkpoint after each epoch of training: a file to go on from, and the weights of the best epoch.

On a CPU, a training that goes on from the file ends with the same weights as an uninterrupted one.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch

from ensemble.checkpoints import file as checkpoint
from ensemble.errors import CheckpointError
from ensemble.training.loop import EpochLog, Training

# Number of errors, then the mean loss in nats; the smaller one is better.
Verdict = tuple[int, float]


class EpochCheckpoint:
    """Writes a file after each epoch, and keeps the best weights if there is a judge.

    Args:
        path: File to go on from; `forget` removes it.
        judge: Judges the network on images that it is not trained on; the last epoch's weights stay
            if None.
        patience: Number of epochs without a better verdict after which the training ends.
    """

    def __init__(
        self,
        path: Path,
        judge: Callable[[torch.nn.Module], Verdict] | None = None,
        patience: int = 1,
    ) -> None:
        self._path, self._judge, self._patience = path, judge, patience
        self._best: tuple[Verdict, int, checkpoint.Weights] | None = None

    @property
    def best_epoch(self) -> int | None:
        """Number of epochs behind the best weights, 0 for the initial ones; None without a judge."""
        return None if self._best is None else self._best[1]

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

    def keep(self, training: Training) -> bool:
        """Judge an epoch and write the file; tell whether to train another epoch."""
        self._compare(training)
        self._publish(training)
        return self._is_patient(training)

    def end(self, training: Training) -> None:
        """Load the best weights into the network, if there is a judge."""
        if self._best is not None:
            training.network.load_state_dict(self._best[2])

    def forget(self) -> None:
        """Remove the file, once the trained weights are published."""
        self._path.unlink(missing_ok=True)

    def _is_patient(self, training: Training) -> bool:
        return self._best is None or len(training.log) - self._best[1] < self._patience

    def _compare(self, training: Training) -> None:
        if self._judge is None:
            return
        verdict = self._judge(training.network)
        training.network.train()
        if self._best is None or verdict < self._best[0]:
            weights = {n: t.detach().clone() for n, t in training.network.state_dict().items()}
            self._best = (verdict, len(training.log), weights)

    def _publish(self, training: Training) -> None:
        tensors = {f"network/{n}": t for n, t in training.network.state_dict().items()}
        for index, state in training.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{index}/{n}": t for n, t in state.items() if t is not None}
        tensors["rng/order"] = training.generator.get_state()
        tensors["rng/cpu"] = torch.get_rng_state()
        if (device := _cuda_device(training)) is not None:
            tensors["rng/cuda"] = torch.cuda.get_rng_state(device)
        best = None
        if self._best is not None:
            tensors |= {f"best/{name}": tensor for name, tensor in self._best[2].items()}
            best = self._best[:2]
        metadata = {
            "parts": str(training.parts),
            "best": json.dumps(best),
            "log": json.dumps([asdict(epoch) for epoch in training.log]),
        }
        checkpoint.save_weights(tensors, self._path, metadata)

    def _restore(self, training: Training) -> None:
        tensors, metadata = checkpoint.load(self._path)
        try:
            training.network.load_state_dict(_below(tensors, "network/"))
            training.optimizer.load_state_dict(_optimizer_state(tensors, training.optimizer))
            training.generator.set_state(tensors["rng/order"])
            torch.set_rng_state(tensors["rng/cpu"])
            if (device := _cuda_device(training)) is not None and "rng/cuda" in tensors:
                torch.cuda.set_rng_state(tensors["rng/cuda"], device)
            training.parts = int(metadata["parts"])
            training.log = [EpochLog(**epoch) for epoch in json.loads(metadata["log"])]
            if (best := json.loads(metadata["best"])) is not None:
                (errors, loss), epoch = best
                self._best = ((errors, loss), epoch, _below(tensors, "best/"))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{self._path} is not a training to go on with ({error!r}). Remove it to train anew."
            ) from error


def _below(tensors: checkpoint.Weights, prefix: str) -> checkpoint.Weights:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _optimizer_state(
    tensors: checkpoint.Weights, optimizer: torch.optim.Optimizer
) -> dict[str, object]:
    state: dict[int, checkpoint.Weights] = {}
    for key, tensor in _below(tensors, "optimizer/").items():
        index, name = key.split("/")
        state.setdefault(int(index), {})[name] = tensor
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}


def _cuda_device(training: Training) -> torch.device | None:
    device = next(training.network.parameters()).device
    return device if device.type == "cuda" else None
