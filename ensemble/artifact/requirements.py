"""requirements.txt of an artifact: the versions of the libraries that a forward pass depends on."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version

from ensemble.members.identity import library_versions
from ensemble.members.member import Member

FILE_NAME = "requirements.txt"

_PROJECT, _ALWAYS = "ensemble-as-a-job", ("numpy", "pillow", "safetensors")


def versions_of(members: Iterable[Member]) -> dict[str, str]:
    """Look up the versions of this project and of the libraries that members need, by name."""
    versions = {name: version(name) for name in (_PROJECT, *_ALWAYS)}
    for member in members:
        versions |= library_versions(member.architecture)
    return dict(sorted(versions.items()))


def render(versions: Mapping[str, str]) -> str:
    """Render versions as pip reads them.

    Args:
        versions: Versions by name. That of a variant, as onnxruntime-gpu, begins with the variant's name.
    """
    project = versions.get(_PROJECT, "")
    lines = [
        "# The versions of libraries that this ensemble was made with. Others may do, and",
        f"# `ensemble verify` tells. It is read by {_PROJECT} {project}, which is installed from its checkout.",
    ]
    for name, number in versions.items():
        if name != _PROJECT:
            variant, _, plain = number.rpartition(" ")
            # What follows a plus says how a wheel was built, as +cpu, and is not on PyPI.
            lines.append(f"{variant or name}=={plain.partition('+')[0]}")
    return "\n".join(lines) + "\n"
