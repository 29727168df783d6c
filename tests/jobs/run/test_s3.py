"""The main job with everything that it reads and writes on S3, over a socket."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from PIL import Image

from ensemble import predictor
from ensemble.checkpoints import file as checkpoint
from ensemble.images.open import open_source
from ensemble.images.settings import FolderConfig
from ensemble.models import registry as models
from ensemble.report.documents.run import Report
from ensemble.storage.settings import S3Config

# aiobotocore's connections are closed by their finaliser, and moto's server by its thread's end.
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

CONFIG = """
images:
  source: {{kind: folder, path: "s3://tables/job/images"}}
  split: {{train: 0, search: 20, test: 17}}
  max_bad_images: 1
members:
  - {{name: one, source: {{kind: checkpoint, path: "s3://tables/job/weights/0.safetensors"}}}}
  - {{name: two, source: {{kind: checkpoint, path: "s3://tables/job/weights/1.safetensors"}}}}
storage: {{endpoint: "http://127.0.0.1:{port}", runs: "s3://tables/job/runs", profile: mine}}
report: {{top_k: 2}}
cluster: {{device: cpu, hosts: 1, shard_images: 16, object_store_mb: 128}}
"""


@pytest.fixture
def client(moto_port: int, tmp_path: Path) -> Any:
    """A bucket with 37 images of three classes, one of them torn, and two networks."""
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{moto_port}")
    rng, path = np.random.default_rng(0), tmp_path / "file"

    def put(key: str) -> None:
        client.put_object(Bucket="tables", Key=f"job/{key}", Body=path.read_bytes())

    for i in range(36):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(path, "PNG")
        put(f"images/class{i % 3}/{i:02d}.png")
    path.write_bytes(path.read_bytes()[:50])
    put("images/class0/torn.png")
    header = {
        "architecture": "alexnet_small",
        "classes": "[0, 1, 2]",
        "head": "head",
        "parameters": "1",
        "preprocessing": '{"size": 16, "mean": [0.5, 0.5, 0.5], "std": [0.3, 0.3, 0.3]}',
    }
    for seed in range(2):
        checkpoint.save(models.build("alexnet_small", 3, seed), path, header)
        put(f"weights/{seed}.safetensors")
    return client


@pytest.mark.nightly
def test_a_run_on_s3_leaves_everything_there_and_another_machine_goes_on_with_it(
    client: Any, moto_port: int, tmp_path: Path, environment: dict[str, str]
) -> None:
    config = tmp_path / "job.yaml"
    config.write_text(CONFIG.format(port=moto_port))
    # Nobody has keys but who reads the user's own file: the driver, and the hosts it starts.
    (tmp_path / "credentials").write_text(
        "[mine]\naws_access_key_id = testkey\naws_secret_access_key = testsecret\n"
    )
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in KEYS:
        del keys[name]
    keys["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "credentials")

    def run(folder: str, *words: str) -> str:
        (tmp_path / folder).mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "jobs", *(words or ("run", str(config), "name=mine"))],
            capture_output=True,
            text=True,
            cwd=tmp_path / folder,
            env={k: v for k, v in environment.items() if k not in KEYS} | keys,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "published: s3://tables/job/runs/mine" in done.stdout
        left = [p.read_bytes() for p in (tmp_path / folder).rglob("*") if p.is_file()]
        assert not any(b"testsecret" in data for data in (*left, done.stdout.encode()))
        return done.stdout

    def published() -> dict[str, bytes]:
        listed = client.list_objects_v2(Bucket="tables", Prefix="job/runs/mine/")["Contents"]
        return {
            entry["Key"]: client.get_object(Bucket="tables", Key=entry["Key"])["Body"].read()
            for entry in listed
        }

    assert "72 forward passes" in run("first")
    first = published()
    assert "; 0 forward passes" in run("another machine")
    url, endpoint = "s3://tables/job/runs/mine", f"storage.endpoint=http://127.0.0.1:{moto_port}"
    resume = ("resume", url, endpoint, "storage.profile=mine")
    assert "; 0 forward passes" in run("a machine that has the URL only", *resume)
    again = published()
    name = "job/runs/mine/report.json"
    before, after = (Report.model_validate_json(found[name]) for found in (first, again))
    assert after.reproducible() == before.reproducible()
    assert [bad.image_id for bad in after.data.bad_images] == ["class0/torn.png"]
    # What an image costs is measured anew on each machine, and told in the artifact, too.
    costs = ("costs.json", "README.md", "SHA256SUMS")
    volatile = ("report.json", "report.html", "config.json", *costs)
    for key in again:
        if not key.endswith(volatile) and "/lease/" not in key:
            assert again[key] == first[key]
    assert not any(b"testsecret" in data for data in again.values())
    storage = S3Config(endpoint=f"http://127.0.0.1:{moto_port}")
    source = open_source(FolderConfig(path="s3://tables/job/images", storage=storage))
    images = [source.decode(f"class{i % 3}/{i:02d}.png") for i in range(36)]
    found = predictor.load("s3://tables/job/runs/mine/ensemble", storage).predict(images)
    assert found.probabilities.shape == (36, 3)


@pytest.mark.nightly
def test_a_run_through_faults_ends_with_the_report_and_the_bytes_of_a_local_one(
    moto_port: int,
    fault_proxy: Any,
    tiny_config: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    def run(folder: Path, *words: str) -> None:
        folder.mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "jobs", "run", str(tiny_config), "name=tiny", *words],
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment | {k: v for k, v in os.environ.items() if k.startswith("AWS_")},
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    run(tmp_path / "near")
    local = tmp_path / "near" / "runs" / "tiny"
    with fault_proxy(moto_port, 0.3, seed=0) as proxy:
        endpoint = f"storage.endpoint=http://127.0.0.1:{proxy.port}"
        run(tmp_path / "far", endpoint, "storage.runs=s3://tables/faults")
        assert set(proxy.injected) >= {"503", "reset", "truncated", "lost reply", "flipped bit"}
        print(sum(proxy.injected.values()), "faults", dict(proxy.injected))
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{moto_port}")

    def far(name: str) -> bytes:
        key = f"faults/tiny/{name}"
        return bytes(client.get_object(Bucket="tables", Key=key)["Body"].read())

    report, expected = (
        Report.model_validate_json(data)
        for data in (far("report.json"), (local / "report.json").read_bytes())
    )
    assert report.reproducible() == expected.reproducible()
    assert report.execution.retries.requests > 0
    shards = sorted((local / "table" / "columns").rglob("*.arrow"))
    assert len(shards) > 10
    for path in shards:
        assert far(path.relative_to(local).as_posix()) == path.read_bytes()
