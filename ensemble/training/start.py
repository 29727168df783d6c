"""The network that a training starts from: fresh weights, those of a base, or published ones with a new head."""

from dataclasses import dataclass, field

from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.header import read_metadata
from ensemble.checkpoints.load import load_network
from ensemble.checkpoints.scores import Scores, give_logits
from ensemble.errors import CheckpointError
from ensemble.members.source_settings import TakeConfig
from ensemble.models import registry as models
from ensemble.models.heads import find_head, restrict_head
from ensemble.training.task import Start, TrainTask

_WEIGHTED = (nn.Conv2d, nn.Linear)


def build_start(task: TrainTask) -> nn.Module:
    """Build the network of a task with the weights that its training starts from.

    Raises:
        CheckpointError: The weights to start from do not fit the task's architecture, or cannot be read.
    """
    if task.base is not None:
        outputs = [task.base.classes.index(label) for label in task.classes]
        return restrict_head(load_network(task.base), outputs)
    network = models.build(task.architecture, len(task.classes), task.start_seed)
    if task.start is None:
        return network
    put_start(network, task.start, f"{task.architecture} of {task.name!r}", len(task.classes))
    return give_logits(network, scores_of_start(task))


def put_start(network: nn.Module, start: Start, what: str, num_classes: int) -> None:
    """Load the weights of a start into a network, but for a head of other classes.

    Args:
        network: The network, with fresh weights.
        start: The weights, and which of them are taken.
        what: What messages call the network.
        num_classes: Number of classes of the data.

    Raises:
        CheckpointError: The weights do not fit the network, or cannot be read.
    """
    weights, own = load_network(start.weights).state_dict(), network.state_dict()
    if start.take is not None:
        taken = _take(network, start, weights)
    else:
        taken = _take_all(network, start, weights, what, num_classes)
    network.load_state_dict(own | taken)


def try_start(name: str, architecture: str, num_classes: int, start: Start) -> None:
    """Refuse weights that a network of an architecture cannot start from.

    Args:
        name: Name of the member that is to be trained.
        architecture: Its architecture.
        num_classes: Number of classes of the data.
        start: The weights, and which of them are taken.

    Raises:
        CheckpointError: The weights are of another architecture, have no head, or lack a layer that is taken.
    """
    if start.take is None and architecture != start.weights.architecture:
        raise CheckpointError(
            f"{start.weights.checkpoint} is of {start.weights.architecture}, and {name!r} is "
            f"{architecture}. Leave architecture out to train {start.weights.architecture}, or set "
            "take: {first: 4} for the layers that both have."
        )
    network = models.build(architecture, num_classes)
    put_start(network, start, f"{architecture} of {name!r}", num_classes)


def scores_of_start(task: TrainTask) -> Scores:
    """Tell what the outputs of a task's network are, which training does not change: mostly logits."""
    if task.start is not None and task.start.take is not None:
        return "logits"
    weights = task.base or (task.start.weights if task.start else None)
    return checkpoint.scores_of(read_metadata(weights.checkpoint)) if weights else "logits"


def _take_all(
    network: nn.Module, start: Start, weights: checkpoint.Weights, what: str, num_classes: int
) -> checkpoint.Weights:
    own, head = network.state_dict(), find_head(network, num_classes)
    of_head = {name for name in own if name.startswith(f"{head}.")}
    has_other_head = start.new_head or any(
        name in weights and weights[name].shape != own[name].shape for name in of_head
    )
    left_out = of_head if has_other_head else set[str]()
    checkpoint.check_fit(
        start.weights.checkpoint,
        {name: tensor for name, tensor in weights.items() if name not in left_out},
        {name: tensor for name, tensor in own.items() if name not in left_out},
        f"{what}, which starts from {start.weights.architecture}",
    )
    return {name: tensor for name, tensor in weights.items() if name not in left_out}


def _take(network: nn.Module, start: Start, weights: checkpoint.Weights) -> checkpoint.Weights:
    """Take some of the first and last layers, in the order in which both networks have them.

    Each of the first goes to the next layer of its shape, and each of the last to that at its place from the end.

    Source: Simonyan, Zisserman 2014, §3.1: the first four convolutions and the fully connected layers.
    """
    take, own = start.take or TakeConfig(first=1), network.state_dict()
    theirs = _layers(models.build(start.weights.architecture, len(start.weights.classes)))
    mine = _layers(network)
    for name, number in (("first", take.first), ("last", take.last)):
        if number > min(len(mine), len(theirs)):
            raise CheckpointError(
                f"take.{name} is {number}, and {start.weights.architecture} has {len(theirs)} layers with "
                f"weights and the network to train {len(mine)}; take at most "
                f"{min(len(mine), len(theirs))}."
            )
    taken: checkpoint.Weights = {}
    place = 0
    for source in theirs[: take.first]:
        # Deeper networks have layers of other shapes between: VGG-A's second is the third of VGG-D.
        shapes = [weights[name].shape for name in source.tensors]
        while place < len(mine) and [own[name].shape for name in mine[place].tensors] != shapes:
            place += 1
        if place == len(mine):
            raise CheckpointError(
                f"the network to train has no further layer with {_shapes(weights, source)}, as {source.name} of "
                f"{start.weights.checkpoint} has; take fewer layers, by a smaller take.first."
            )
        taken |= _tensors(mine[place], source, weights)
        place += 1
    if take.last:
        for layer, source in zip(mine[-take.last :], theirs[-take.last :], strict=True):
            if [own[n].shape for n in layer.tensors] == [weights[n].shape for n in source.tensors]:
                taken |= _tensors(layer, source, weights)
            elif layer is not mine[-1]:
                raise CheckpointError(
                    f"the layer {layer.name} has {_shapes(own, layer)}, and {source.name} of "
                    f"{start.weights.checkpoint} has {_shapes(weights, source)}; take only layers of equal "
                    "shape, by a smaller take.last."
                )
    return taken


@dataclass
class _Layer:
    """A layer with weights, and the tensors of what follows it up to the next one."""

    name: str
    tensors: list[str] = field(default_factory=list)


def _layers(network: nn.Module) -> list[_Layer]:
    layers: list[_Layer] = []
    state = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, _WEIGHTED):
            layers.append(_Layer(name))
        own = [f"{name}.{key}" for key, _ in _own_tensors(module)]
        if layers:
            layers[-1].tensors += [key for key in own if key in state]
    return layers


def _own_tensors(module: nn.Module) -> list[tuple[str, object]]:
    return [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]


def _tensors(layer: "_Layer", source: "_Layer", weights: checkpoint.Weights) -> checkpoint.Weights:
    pairs = zip(layer.tensors, source.tensors, strict=True)
    return {name: weights[other] for name, other in pairs}


def _shapes(state: checkpoint.Weights, layer: _Layer) -> str:
    return ", ".join(str(list(state[name].shape)) for name in layer.tensors)
