"""A night as a job of a real head with a token: its exit code 3 reaches the shell, and a date has one night."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ensemble.artifact.document import FILE_NAME
from ensemble.checkpoints import file as checkpoint
from ensemble.files import seal, sha256_of, unseal

from ..conftest import Command
from ..heads import started

pytestmark = [pytest.mark.ray, pytest.mark.nightly]

SUITE = """
folder: {folder}
rows:
  - {{name: digits, artifact: {artifact}, images: {{kind: digits}}}}
cluster: {{device: cpu, hosts: 2, object_store_mb: 128}}
"""


def _break(artifact: Path) -> None:
    """Move the mean that the heaviest member's pixels are reduced by."""
    document = unseal(json.loads((artifact / FILE_NAME).read_text()))
    entry = max(document["members"], key=lambda member: member["weight_units"])  # type: ignore[attr-defined]
    path = artifact / entry["file"]
    weights, metadata = checkpoint.load(path)
    preprocessing = json.loads(metadata["preprocessing"])
    preprocessing["mean"] = [value + 0.5 for value in preprocessing["mean"]]
    metadata["preprocessing"] = json.dumps(preprocessing)
    metadata.pop("digest", None)
    broken = path.with_name("broken.safetensors")
    checkpoint.save_weights(weights, broken, metadata)
    entry |= {"file": f"members/{broken.name}", "sha256": sha256_of(broken)}
    (artifact / FILE_NAME).write_text(json.dumps(seal(document)))


def test_a_regression_on_a_cluster_is_the_shells_exit_code(
    tmp_path: Path, tiny_config: Path, command: Command, environment: dict[str, str]
) -> None:
    run = command(
        "run", tiny_config, "name=good", f"runs={tmp_path}", "recipes.default.epochs=4",
        "subclassifiers=null", "images.split={train: 200, search: 80, test: 60}", cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    artifact = tmp_path / "good" / "ensemble"
    suite = tmp_path / "nightly.yaml"
    suite.write_text(SUITE.format(folder=tmp_path / "history", artifact=artifact))
    home = tmp_path / "home"
    home.mkdir()
    with started(home) as head:
        user = environment | {
            "RAY_AUTH_TOKEN": head.token,
            "RAY_API_SERVER_ADDRESS": head.address,
            "HOME": str(home),
            "PYTHONPATH": str(Path(__file__).parents[3]),
        }

        def night(on: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "jobs", "nightly", str(suite), "--date", on, "--wait"],
                capture_output=True,
                text=True,
                env=user,
                cwd=home,
                timeout=400,
                check=False,
            )

        first = night("2026-11-01")
        assert first.returncode == 0, first.stdout + first.stderr
        again = night("2026-11-01")
        assert again.returncode == 2
        assert "was submitted before" in again.stderr
        _break(artifact)
        second = night("2026-11-02")
        assert second.returncode == 3, second.stdout + second.stderr
        assert "alert: digits/top1_error open since 2026-11-02" in second.stdout
