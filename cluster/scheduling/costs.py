"""What members cost on the devices of a run: given in the config, measured by an earlier run, or unknown."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from cluster.scheduling.placement import Device, Work
from cluster.scheduling.work_queue import Call
from cluster.settings import ClusterConfig
from ensemble.inference.costs import Figure, FigureCache, figure_key
from ensemble.members.member import Member
from ensemble.members.settings import Precision
from ensemble.views.settings import Views

# Names that stand for any network: of graphs that a user brings, and of those that are made up.
_ANY_NETWORK = ("onnx", "pt2", "rehearsal")


class Costs:
    """Figures by member and kind of device.

    Args:
        config: Its given figures come before measured ones.
        cache: Where measured figures are kept.
    """

    def __init__(self, config: ClusterConfig, cache: FigureCache) -> None:
        self._config, self._cache = config, cache
        self._found: dict[str, Figure | None] = {}
        # Of members whose figures were given, and are not ours to keep.
        self._fitting: dict[str, int] = {}

    def key(
        self,
        architecture: str,
        parameters: int | None,
        num_classes: int,
        size: int,
        views: Views,
        precision: Precision,
        kind: str,
    ) -> str:
        """Identity of a cost on a kind of device, for members that are not trained yet.

        Parameters need be known of programs only, whose architecture does not tell them apart.
        """
        if architecture in _ANY_NETWORK:
            architecture = f"{architecture}/{parameters}"
        settings: dict[str, object] = {
            "device": kind,
            "precision": precision,
            "channels_last": self._config.channels_last,
            "compile": self._config.compile,
        }
        return figure_key(architecture, num_classes, size, views, settings)

    def find(self, name: str, key: str) -> Figure | None:
        """The figure of a member, given or measured."""
        if given := self._config.figures.get(name):
            fitting = self._fitting.get(key, given.batch_images)
            return given.model_copy(update={"batch_images": fitting})
        if key not in self._found:
            self._found[key] = self._cache.find(key)
        return self._found[key]

    def of(self, member: Member, kind: str) -> Figure | None:
        """The figure of a member whose weights are there."""
        return self.find(member.name, self._key_of(member, kind))

    def keep(self, member: Member, kind: str, figure: Figure) -> None:
        """Remember what was measured, in this run and in later ones."""
        key = self._key_of(member, kind)
        self._found[key] = figure
        self._cache.keep(key, figure)

    def batch_images(self, member: Member, kinds: Collection[str]) -> int | None:
        """The smallest batch that is known to fit; none where nothing is known."""
        found = [self.of(member, kind) for kind in kinds]
        return min((f.batch_images for f in found if f and f.batch_images), default=None)

    def halved(self, member: Member, kind: str, batch_images: int) -> bool:
        """Remember the batch that fitted; tell whether that is news."""
        known = self.of(member, kind)
        if known is None or known.batch_images == batch_images:
            return False
        if member.name in self._config.figures:
            self._fitting[self._key_of(member, kind)] = batch_images
        else:
            self.keep(member, kind, known.model_copy(update={"batch_images": batch_images}))
        return True

    def works(self, calls: Iterable[Call], kinds: Collection[str]) -> list[Work]:
        """What each member of some calls has to do, on each kind of device.

        A kind that a member was not measured on is taken to be as fast as the one it was.
        """
        members, blocks, images = dict[str, Member](), Counter[str](), Counter[str]()
        for call in calls:
            if isinstance(call.about, Member):
                column = call.about.column
                members[column] = call.about
                blocks[column] += 1
                images[column] += sum(len(spec.image_ids) for spec in call.shards)
        return [
            self._work(member, images[column], blocks[column], kinds)
            for column, member in members.items()
        ]

    def with_memory(
        self, devices: Sequence[Device], members: Iterable[Member]
    ) -> tuple[Device, ...]:
        """Devices with the memory that was measured, where the config did not say it."""
        members = tuple(members)
        memory: dict[str, float] = {}
        for kind in sorted({device.kind for device in devices}):
            found = [figure for m in members if (figure := self.of(m, kind))]
            memory[kind] = max((f.device_memory_mb or 0.0 for f in found), default=0.0)
        return tuple(
            replace(device, memory_mb=memory[device.kind])
            if device.memory_mb == float("inf") and memory[device.kind]
            else device
            for device in devices
        )

    def _work(self, member: Member, images: int, blocks: int, kinds: Collection[str]) -> Work:
        figures = {kind: self.of(member, kind) for kind in sorted(kinds)}
        known = [figure for figure in figures.values() if figure]
        return Work(
            member.name,
            {kind: images / (f or known[0]).images_per_s for kind, f in figures.items()},
            max(figure.memory_mb for figure in known),
            blocks,
        )

    def _key_of(self, member: Member, kind: str) -> str:
        return self.key(
            member.architecture,
            member.parameters,
            len(member.classes),
            member.preprocessing.size,
            member.views,
            member.precision,
            kind,
        )
