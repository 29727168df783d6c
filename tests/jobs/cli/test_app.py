import json
from pathlib import Path

import pytest

from jobs.settings import RunConfig, load_run_config

from ..conftest import Command

CONFIGS = sorted((Path(__file__).parents[3] / "jobs" / "configs").glob("*.yaml"))
DIGITS = next(path for path in CONFIGS if path.name == "digits.yaml")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_config_in_the_tree_is_valid(path: Path) -> None:
    assert load_run_config(path).members


def test_the_default_pool_has_13_members_of_8_architectures_and_two_pairs_of_seeds() -> None:
    config = load_run_config(DIGITS)
    sources = [member.source.model_dump() for member in config.members]
    architectures = [source["architecture"] for source in sources]
    assert len(architectures) == 13
    assert len(set(architectures)) >= 8
    assert sum(architectures.count(name) == 2 for name in set(architectures)) == 2


def test_a_config_survives_its_own_json() -> None:
    config = load_run_config(DIGITS)
    again = RunConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert again.identity == config.identity


def test_what_changes_no_result_changes_no_identity() -> None:
    config = load_run_config(DIGITS)
    assert load_run_config(DIGITS, ["cluster.hosts=1", "name=x"]).identity == config.identity
    assert load_run_config(DIGITS, ["seed=1"]).identity != config.identity
    # Runs of before there was such a setting go on.
    of_before = load_run_config(DIGITS, ["temperature=false", "search.kind=paper"])
    assert of_before.identity.startswith("c373f9d0")
    assert load_run_config(DIGITS, ["temperature=false"]).identity != config.identity


@pytest.mark.parametrize("words", [("--help",), ("run", "--help"), ("validate",), ("schema",)])
def test_quick_verbs_answer_without_torch_or_ray(command: Command, words: tuple[str, ...]) -> None:
    done = command(*words)
    assert done.returncode == 0
    assert done.stdout


def test_the_schema_describes_every_setting(command_here: Command) -> None:
    document = json.loads(command_here("schema").stdout)
    assert document == RunConfig.model_json_schema()
    assert all("description" in field for field in document["properties"].values())


BAD = {
    "an unknown key": (["sede=1"], r"sede: no such setting. Did you mean 'seed'?"),
    "a wrong type": (["seed=many"], "seed: expected a whole number, not 'many'."),
    "an unknown architecture": (
        ["members.0.source.architecture=alexnet_smal"],
        "no architecture 'alexnet_smal'. Did you mean 'alexnet_small'?",
    ),
    "an unknown view": (["views.kind=centre"], "no kind 'centre'. Did you mean 'center'?"),
    "an unknown recipe": (
        ["members.2.source.recipe=defalt"],
        "no recipe 'defalt'. Did you mean 'default'?",
    ),
    "an unknown source": (["images.source.kind=digit"], "no kind 'digit'. Did you mean 'digits'?"),
    "two members of one name": (["members.1.name=alexnet"], "['alexnet'] stand twice"),
    "a missing folder": (
        ["images.source={kind: folder, path: /no/such/folder}"],
        "cannot read the image folder '/no/such/folder'",
    ),
    "too many images": (["images.split.train=5000"], "asks for 5000 train"),
    "a split without a class": (["images.split.train=3"], "the train split has 3 images and none"),
    "a k that nothing can miss": (["search.k=10"], "search.k is 10, and there are 10 classes"),
    "a cost of no member": (
        ["search.costs.alexnt=1"],
        "no member of search.costs 'alexnt'. Did you mean 'alexnet'?",
    ),
    "as many label clusters as classes": (
        ["subclassifiers.num_clusters=[10]"],
        "num_clusters has 10, and there are 10 classes",
    ),
    "a base that is no member": (
        ["subclassifiers.base=resnet"],
        "subclassifiers.base: no member 'resnet'. Did you mean",
    ),
    "an unknown gate": (["subclassifiers.gates=[entropi]"], "Did you mean 'entropy'?"),
    "label clusters without room": (
        ["subclassifiers={min_cluster_size: 3, max_cluster_size: 4}"],
        "Set max_cluster_size to 6 or more",
    ),
    "a member whose weights are not there": (
        ["members.0.source={kind: checkpoint, path: /no/such.safetensors}"],
        "the member 'alexnet' cannot be loaded: /no/such.safetensors",
    ),
    "an override without a value": (["images.source.kind=digits", "oops"], "a.b=value"),
}


@pytest.mark.parametrize(("words", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_one_message_and_exit_code_2(
    command_here: Command, tmp_path: Path, words: list[str], message: str
) -> None:
    done = command_here("run", "seed=0", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_config_is_exit_code_2(command_here: Command) -> None:
    done = command_here("run", "no-such.yaml")
    assert (done.returncode, "cannot read the config 'no-such.yaml'" in done.stderr) == (2, True)


def test_a_folder_with_an_empty_class_is_exit_code_2(command_here: Command, tmp_path: Path) -> None:
    (tmp_path / "images" / "cat").mkdir(parents=True)
    done = command_here(
        "run", f"images.source={{kind: folder, path: {tmp_path}/images}}", cwd=tmp_path
    )
    assert done.returncode == 2
    assert "the class 'cat' has no image" in done.stderr


def test_a_run_folder_of_another_config_is_refused_before_anything_is_computed(
    command_here: Command, tmp_path: Path
) -> None:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    other = load_run_config(DIGITS, ["seed=7"]).model_dump_json()
    (tmp_path / "runs" / "mine" / "config.json").write_text(other)
    done = command_here("run", "name=mine", cwd=tmp_path)
    assert done.returncode == 2
    assert "'runs/mine' belongs to another config: seed is 7 there and 0 here" in done.stderr
    assert not (tmp_path / "runs" / "cache").exists()
