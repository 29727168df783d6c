"""Published files: found in a mirror or a library's cache, downloaded by the library, and checked."""

from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

from ensemble.errors import CheckpointError
from ensemble.files import sha256_of
from ensemble.members.source_settings import WeightsConfig

_SHOWN_DIGITS = 16


@dataclass(frozen=True)
class PublishedFile:
    """A file of weights, and where it is published.

    Attributes:
        name: Path of the file in a mirror: resnet50-0676ba61.pth, or org/name/model.safetensors.
        url: URL that the file is downloaded from; empty for the hub.
        revision: Revision of the repository on the Hugging Face hub that `name` begins with.
        sha256: SHA-256 of the file or its first digits, if known.
    """

    name: str
    url: str = ""
    revision: str = "main"
    sha256: str | None = None


def find(file: PublishedFile, weights: WeightsConfig) -> Path | None:
    """Find a file on this machine, if it is there; nothing is downloaded or checked."""
    if weights.mirror is not None:
        # By its whole path, by its bare name, or by its digest.
        names = (file.name, Path(file.name).name if file.url else "", file.sha256 or "")
        # Large files of the hub come in shards, with an index.
        shards = f"{file.name}.index.json" if file.name.endswith(".safetensors") else ""
        places = [weights.mirror / name for name in (*names, shards) if name]
        if (
            file.sha256
        ):  # a file that is named by all of its digest, where a pin has the first digits
            places += sorted(weights.mirror.glob(f"{file.sha256}*"))
    elif file.url:
        import torch.hub

        places = [Path(torch.hub.get_dir()) / "checkpoints" / file.name]
    else:
        from huggingface_hub import try_to_load_from_cache

        repository, filename = _hub_place(file)
        cached = try_to_load_from_cache(repository, filename, revision=file.revision)
        places = [Path(cached)] if isinstance(cached, str) else []
    return next((place for place in places if place.is_file()), None)


def fetch(file: PublishedFile, weights: WeightsConfig) -> Path:
    """Find or download a file, and check its digest.

    Raises:
        CheckpointError: The file is not in the mirror, cannot be downloaded, or has another digest.
    """
    path = find(file, weights)
    if path is None and weights.mirror is not None:
        raise CheckpointError(
            f"the weights {file.name!r} are not in weights.mirror {str(weights.mirror)!r}. Copy the "
            f"file there ({_origin(file)}), or unset weights.mirror to download it."
        )
    path = path or _download(file)
    if file.sha256:
        check_sha256(path, file.sha256)
    return path


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose digest does not begin with the expected digits.

    Raises:
        CheckpointError: The digest of the file does not begin with `expected`.
    """
    digest = sha256_of(path)
    if not digest.startswith(expected):
        raise CheckpointError(
            f"{path} is not the file that was pinned: its sha256 is {digest[:_SHOWN_DIGITS]}…, expected "
            f"{expected[:_SHOWN_DIGITS]}…. Remove it and fetch it again, or correct the member's sha256."
        )


def _download(file: PublishedFile) -> Path:
    return _from_url(file) if file.url else _from_hub(file)


def _from_url(file: PublishedFile) -> Path:
    import torch.hub

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(file.url, str(folder / file.name), progress=False)
    except OSError as error:  # URLError is one
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise _unreachable(file, error) from error
    return folder / file.name


def _from_hub(file: PublishedFile) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    repository, filename = _hub_place(file)
    try:
        return Path(hf_hub_download(repository, filename, revision=file.revision))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise _unreachable(file, error) from error


def _hub_place(file: PublishedFile) -> tuple[str, str]:
    owner, name, filename = file.name.split("/", 2)
    return f"{owner}/{name}", filename


def _origin(file: PublishedFile) -> str:
    return file.url or f"the Hugging Face hub, revision {file.revision}"


def _unreachable(file: PublishedFile, error: Exception) -> CheckpointError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return CheckpointError(
        f"the weights {file.name!r} are not on this machine and cannot be downloaded from "
        f"{_origin(file)}: {reason}. Without a network, put the file into a folder and set "
        "weights.mirror to it."
    )
