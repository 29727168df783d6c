"""What can go wrong, as one tree. Every message says what (with values), what was expected, what to do.

ProjectError
├── ConfigError                  a setting is wrong; nothing was computed
│   └── UnknownNameError         a name is not in its registry (did you mean …?)
├── DataError                    images or labels are wrong
│   ├── DecodeError              one image cannot be decoded
│   └── EmptySplitError          a split has no image, or lacks a class
├── TableError                   the logit table cannot be trusted or is not complete
│   ├── IncompleteTableError     blocks are missing
│   ├── DamagedTableError        a shard or log entry is gone, damaged or somebody else's
│   ├── TableBusyError           another driver is writing
│   └── ShapeError               a value does not have the shape its stage needs
├── CheckpointError              a member's weights cannot be built or loaded
├── DivergedError                a training's loss is no longer a number
└── ClusterError                 work on the cluster did not finish
    ├── MemberFailedError        one member failed for good, and why
    └── PartialError             everything is done except blocks that killed their worker every time
"""

import difflib
from collections.abc import Iterable


class ProjectError(Exception):
    """Whatever this project raises on purpose; its message is fit to show to a user."""


class ConfigError(ProjectError):
    """A setting is wrong; nothing was computed."""


class UnknownNameError(ConfigError):
    """A name is not in its registry."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Say which name, the nearest known one, and all known ones."""
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"no {kind} {name!r}.{hint} Known: {', '.join(names)}.")


class DataError(ProjectError):
    """Images or labels are wrong."""


class DecodeError(DataError):
    """One image cannot be decoded."""


class EmptySplitError(DataError):
    """A split has no image, or lacks a class."""


class TableError(ProjectError):
    """The logit table cannot be trusted or is not complete."""


class IncompleteTableError(TableError):
    """Blocks are missing."""


class DamagedTableError(TableError):
    """A shard or a log entry is gone, damaged or somebody else's; repair can name and drop it."""


class TableBusyError(TableError):
    """Another driver is writing the table, or took it over."""


class ShapeError(TableError):
    """A value does not have the shape its stage needs."""


class CheckpointError(ProjectError):
    """A member's weights cannot be built or loaded."""


class DivergedError(ProjectError):
    """The loss of a training step was not finite; the weights are worth nothing."""


class ClusterError(ProjectError):
    """Work on the cluster did not finish."""


class MemberFailedError(ClusterError):
    """One member failed for good, and why; `name` is the name of the member."""

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class PartialError(ClusterError):
    """Everything is done except some blocks, which killed their worker every time."""
