"""`ensemble doctor`: whether a store keeps the promises of a table, or a cluster's head is protected."""

import json
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ensemble.config import load_words
from ensemble.storage.open import open_store
from ensemble.storage.probe import probe
from ensemble.storage.settings import StorageConfig


def examine(place: str, words: Sequence[str]) -> dict[str, Any]:
    """Try whether a store keeps every promise that tables rely on.

    Args:
        place: A folder or s3://bucket/prefix.
        words: Settings of `storage`, of the form storage.key=value or key=value.

    Returns:
        The document that `--json` prints.

    Raises:
        ConfigError: A setting is wrong.
        TableError: The store cannot be reached, or refuses.
    """
    config = load_words(StorageConfig, words, group="storage")
    began = time.perf_counter()
    findings = probe(open_store(place, config))
    is_fit = all(finding.is_kept for finding in findings if finding.is_needed)
    names = {finding.promise for finding in findings if finding.is_needed and not finding.is_kept}
    is_lease_free = names == {"an object is created once (If-None-Match)"}
    return {
        "place": place,
        "seconds": time.perf_counter() - began,
        "findings": [vars(finding) for finding in findings],
        "verdict": "fit"
        if is_fit
        else ("fit with storage.single_writer=true only" if is_lease_free else "not fit"),
        "is_fit": is_fit or (is_lease_free and config.single_writer),
    }


def examine_head(address: str | None) -> dict[str, Any]:
    """Try who is admitted by the head of a cluster.

    Raises:
        ConfigError: The address is not a URL.
        ClusterError: Nothing answers at the address.
    """
    from cluster.submission.head import examine as examine_address

    began = time.perf_counter()
    findings = examine_address(address)
    is_fit = all(finding.is_kept for finding in findings if finding.is_needed)
    return {
        "place": address,
        "seconds": time.perf_counter() - began,
        "findings": [vars(finding) for finding in findings],
        "verdict": "fit" if is_fit else "not fit",
        "is_fit": is_fit,
    }


def show(document: dict[str, Any], console: Console) -> None:
    """Print the findings as a table, and the verdict."""
    table = Table(box=None)
    for column in ("promise", "kept", "seen"):
        table.add_column(column)
    for finding in document["findings"]:
        table.add_row(
            finding["promise"], "yes" if finding["is_kept"] else "NO", Text(finding["detail"])
        )
    console.print(table)
    console.print(Text(f"{document['place']}: {document['verdict']}"), soft_wrap=True)


def as_json(document: dict[str, Any]) -> str:
    """Format the document as JSON."""
    return json.dumps(document, indent=2)
