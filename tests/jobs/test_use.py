"""Using an artifact by commands: what is verified, found, refused; no Ray is started."""

import json
import shutil
from pathlib import Path

import pytest

from ensemble.errors import ConfigError
from ensemble.files import seal
from ensemble.storage.open import open_store
from jobs.artifacts import bring_artifact, find_artifact
from jobs.console import open_console
from jobs.export import export
from jobs.predict import predict, write_submission
from jobs.predict_settings import read_words
from jobs.progress.live import Progress
from jobs.verify import verify

from .artifacts import make_artifact, write_digits
from .conftest import Command


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("artifact"))


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(artifact, tmp_path / "run" / "ensemble"))


def test_an_artifact_is_found_by_itself_and_by_its_run(copy: Path, moto_port: int) -> None:
    assert find_artifact(str(copy))[0] == str(copy)
    assert find_artifact(f"{copy.parent}/")[0] == str(copy)
    store = open_store("s3://tables/used", find_artifact(str(copy), _words(moto_port))[1])
    for path in copy.rglob("*"):
        if path.is_file():
            store.replace(f"ensemble/{path.relative_to(copy).as_posix()}", path.read_bytes())
    fetched = bring_artifact("s3://tables/used", _words(moto_port))
    assert fetched.place == "s3://tables/used/ensemble"
    assert verify(fetched.path).document()["sound"]
    store.remove("ensemble/golden/1.png")
    # The folder lives as long as what was fetched, so a name holds it while it is verified.
    damaged = bring_artifact("s3://tables/used", _words(moto_port))
    assert verify(damaged.path).problems[0] == "golden/1.png is missing."


def _words(port: int) -> list[str]:
    return [f"storage.endpoint=http://127.0.0.1:{port}"]


def test_what_is_no_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no artifact and no run that has one"):
        find_artifact(str(tmp_path))


def test_a_sound_artifact_is_verified_to_the_last_file(artifact: Path) -> None:
    result = verify(artifact)
    assert result.is_sound
    assert (result.golden, result.notes) == (8, ())
    assert result.files == sum(path.is_file() for path in artifact.rglob("*")) - 1
    assert result.largest_difference is not None
    assert result.largest_difference < 1e-5


def test_a_corrupted_weight_file_is_one_problem(copy: Path) -> None:
    (path,) = copy.glob("members/alexnet_small-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = verify(copy)
    (problem,) = result.problems
    assert problem.startswith(f"members/{path.name} was changed: its sha256")
    assert result.golden == 0


def test_an_artifact_of_other_versions_is_sound_and_they_are_named(copy: Path) -> None:
    document = json.loads((copy / "ensemble.json").read_text())
    document.pop("sha256")
    document["versions"]["torch"] = "1.0"
    (copy / "ensemble.json").write_text(json.dumps(seal(document)))
    (copy / "SHA256SUMS").unlink()
    result = verify(copy)
    assert result.is_sound
    assert "no SHA256SUMS" in result.notes[0]
    assert result.notes[1].startswith("it was made with torch 1.0 (here ")


def test_the_command_says_what_is_wrong_and_ends_with_1(command_here: Command, copy: Path) -> None:
    (copy / "README.md").write_text("another card")
    done = command_here("verify", copy.parent, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["problems"][0].startswith("README.md was changed")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["topk=3"], "topk: no such setting. Did you mean 'top_k'?"),
        (["top_k=0"], "top_k: expected more than 0, not 0"),
        (["images.form=zip"], "images.form: no choice 'zip'"),
        (["images=3"], "images: "),
    ],
)
def test_a_wrong_setting_of_a_prediction_is_named(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        read_words("photographs", words)
    assert message in str(error.value)


def attempt(artifact: Path, images: Path, out: Path, *words: str) -> None:
    with Progress(open_console(stderr=True), "predict", []) as progress:
        predict(str(artifact), str(out), read_words(str(images), words), progress)


def test_a_place_with_other_answers_or_files_is_refused(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "nowhere at all")  # each attempt ends where Ray would start
    images, out = tmp_path / "images", tmp_path / "out"
    write_digits(images, 3)
    with pytest.raises(ConfigError, match="nowhere at all"):
        attempt(artifact, images, out)
    with pytest.raises(
        ConfigError, match="holds answers of another prediction: top_k is 5 there and 3"
    ):
        attempt(artifact, images, out, "top_k=3")
    with pytest.raises(ConfigError, match="shard_images is 128 there and 7 here"):
        attempt(artifact, images, out, "cluster.shard_images=7")
    with pytest.raises(ConfigError, match="nowhere at all"):
        attempt(artifact, images, out, "cluster.hosts=1", "price_per_hour=3")
    with pytest.raises(ConfigError, match=r"holds '.*\.png', and no predict\.json"):
        attempt(artifact, images, images)
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="there is no image in"):
        attempt(artifact, tmp_path / "none", tmp_path / "out2")


def test_a_submission_has_a_line_an_image(tmp_path: Path) -> None:
    from ensemble.answers.part import encode_failed_part
    from ensemble.answers.settings import PartSettings

    content = encode_failed_part(["a", "b"], "why", PartSettings())
    config = read_words("x", []).storage
    open_store(tmp_path, config).create("parts/000000/000000.parquet", content)
    lines: list[str] = []
    assert write_submission(str(tmp_path), config, lines.append) == 2
    assert lines == ["\n", "\n"]


@pytest.mark.parametrize(
    ("kind", "out", "size", "message"),
    [
        ("pt2", "x.onnx", None, r"does not end in \.pt2, as --to pt2 wants"),
        ("hub", "x", (3, 3), "--size is for --to pt2 and --to onnx"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    artifact: Path, tmp_path: Path, kind: str, out: str, size: tuple[int, int] | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        export(str(artifact), kind, tmp_path / out, size=size)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_program_needs_golden_inputs(copy: Path, tmp_path: Path) -> None:
    document = json.loads((copy / "ensemble.json").read_text())
    document.pop("sha256")
    (copy / "ensemble.json").write_text(json.dumps(seal(document | {"golden": 0})))
    shutil.rmtree(copy / "golden")
    with pytest.raises(ConfigError, match="has no golden inputs to check a program with"):
        export(str(copy), "pt2", tmp_path / "x.pt2")
