"""The curves of trainings, read from beside the weights."""

import json
from collections.abc import Iterable

from ensemble.members.member import Member
from ensemble.report.documents.curves import Curve, CurveEpoch
from ensemble.training.task import curve_file


def read_curves(networks: Iterable[Member]) -> tuple[Curve, ...]:
    """Read what each epoch of each network's training gave; a network without such a file is left out.

    Seconds are left out: they differ from run to run, and the rest of a report does not.
    """
    curves: dict[str, Curve] = {}
    for network in networks:
        path = curve_file(network.checkpoint)
        if network.pool_name in curves or not path.is_file():
            continue
        epochs = [
            CurveEpoch.model_validate({key: epoch[key] for key in CurveEpoch.model_fields})
            for epoch in json.loads(path.read_bytes())
        ]
        if epochs:
            curves[network.pool_name] = Curve(name=network.pool_name, epochs=tuple(epochs))
    return tuple(curves.values())


def read_training_seconds(networks: Iterable[Member]) -> dict[str, float]:
    """Read how long all epochs of each network's training took, by its name; snapshots cost nothing of their own."""
    paths = {network.pool_name: curve_file(network.checkpoint) for network in networks}
    return {
        name: sum(epoch["seconds"] for epoch in json.loads(path.read_bytes()))
        for name, path in paths.items()
        if path.is_file()
    }
