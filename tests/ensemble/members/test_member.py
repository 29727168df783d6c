import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.load import load_member
from ensemble.errors import CheckpointError, ConfigError
from ensemble.members.identity import fingerprint
from ensemble.members.member import Member, by_network, in_precision, split_views, view_names
from ensemble.members.settings import Preprocessing
from ensemble.models import registry as models
from ensemble.views.policies import list_views
from ensemble.views.settings import CenterView, DenseViews, ShiftsAndScales

MakeMember = Callable[..., Member]

METADATA = {
    "architecture": "alexnet_small",
    "classes": "[0, 1, 2]",
    "head": "head",
    "parameters": "99522",
    "preprocessing": '{"size": 16, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}',
    "seed": "7",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "weights.safetensors"


def saved(path: Path, metadata: dict[str, str]) -> Path:
    checkpoint.save(models.build("alexnet_small", 3), path, metadata)
    return path


def test_renamed_or_moved_member_keeps_its_column(make_member: MakeMember) -> None:
    member = make_member("a")
    elsewhere = make_member("a", checkpoint=Path("elsewhere.safetensors"), seed=5)
    renamed = make_member("b", weights_sha256=member.weights_sha256)
    assert member.column == elsewhere.column == renamed.column
    assert len(member.column) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "0" * 64},
        {"views": ShiftsAndScales(shift=1)},
        {"views": ShiftsAndScales(shift=0)},
        {"data_sha256": "0" * 64},
        {"preprocessing": Preprocessing(size=17, mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.4))},
        {"preprocessing": Preprocessing(size=16, mean=(0.3, 0.4, 0.6), std=(0.2, 0.3, 0.4))},
        {"architecture": "vgg11_small"},
        {"classes": (0, 2, 1)},
    ],
)
def test_member_that_computes_something_else_has_another_column(
    make_member: MakeMember, change: dict[str, object]
) -> None:
    assert make_member("a", **change).column != make_member("a").column


def test_precision_is_part_of_what_is_computed_and_a_program_keeps_its_own(
    make_member: MakeMember,
) -> None:
    member = make_member("a")
    assert in_precision(member, "bfloat16").column != member.column
    assert in_precision(member, "float32") == member
    for kind in ("onnx", "pt2"):
        program = make_member("a", architecture=kind)
        assert in_precision(program, "float32") == program
        with pytest.raises(ConfigError, match=rf"'a' is a program \({kind}\) .* in bfloat16"):
            in_precision(program, "bfloat16")


def test_member_is_what_its_checkpoint_says(path: Path) -> None:
    member = load_member("a", saved(path, METADATA), CenterView(), "d" * 64)
    assert member.classes == (0, 1, 2)
    assert member.preprocessing.std == (0.4, 0.5, 0.6)
    assert (member.head, member.parameters, member.seed) == ("head", 99522, 7)


def test_checkpoint_of_somebody_else_needs_no_seed(path: Path) -> None:
    metadata = {key: value for key, value in METADATA.items() if key != "seed"}
    assert load_member("a", saved(path, metadata), CenterView(), "d" * 64).seed is None


@pytest.mark.parametrize("key", ["architecture", "classes", "head", "parameters", "preprocessing"])
def test_checkpoint_that_lacks_something_is_refused(path: Path, key: str) -> None:
    metadata = {name: value for name, value in METADATA.items() if name != key}
    with pytest.raises(CheckpointError, match=f"of member 'a' does not say what it is .*'{key}'"):
        load_member("a", saved(path, metadata), CenterView(), "d" * 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"classes": "5"},
        {"classes": "[0, 1"},
        {"parameters": "many"},
        {"preprocessing": "{}"},
        {"preprocessing": '{"size": 0, "mean": [0, 0, 0], "std": [1, 1, 1]}'},
        {"preprocessing": '{"size": 8, "mean": [0, 0, 0], "std": [1, 0, 1]}'},
        {"seed": "x"},
    ],
)
def test_checkpoint_that_says_nonsense_is_refused(path: Path, wrong: dict[str, str]) -> None:
    with pytest.raises(CheckpointError, match="does not say what it is"):
        load_member("a", saved(path, METADATA | wrong), CenterView(), "d" * 64)


def test_missing_checkpoint_is_named(path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"weights\.safetensors: cannot be read"):
        load_member("a", path, CenterView(), "d" * 64)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_fingerprint_depends_on_the_value_and_not_on_the_order_of_keys(value: object) -> None:
    assert fingerprint(value) == fingerprint(_reversed(value))
    assert fingerprint(value) == fingerprint(json.loads(json.dumps(value)))
    assert fingerprint(value) != fingerprint([value])


def _reversed(value: object) -> object:
    if isinstance(value, dict):
        return {key: _reversed(inner) for key, inner in reversed(value.items())}
    return [_reversed(inner) for inner in value] if isinstance(value, list) else value


def test_kept_views_are_members_that_share_the_weights(make_member: MakeMember) -> None:
    views = DenseViews(short_sides=(16, 32), flip=True, keep_views=True)
    member = make_member(views=views)
    kept = split_views(member)
    assert [one.name for one in kept] == [
        "a@dense16",
        "a@dense16-flip",
        "a@dense32",
        "a@dense32-flip",
    ]
    assert view_names("a", views, 16) == tuple(one.name for one in kept)
    assert {one.pool_name for one in kept} == {"a"}
    assert {one.weights_sha256 for one in kept} == {member.weights_sha256}
    assert len({one.column for one in (*kept, member)}) == 5
    assert tuple(one.views for one in kept) == list_views(views, 16)
    # The network of some of them is the member, whichever they are.
    other = make_member("b")
    assert by_network([*kept[1:3], other]) == [(member, kept[1:3]), (other, (other,))]
    assert {one.network_name for one in kept} == {"a"}
    # A view is the column that it was before it knew where it came from.
    assert kept[0].column == replace(kept[0], kept_from=None).column


def test_averaged_views_are_one_member(make_member: MakeMember) -> None:
    member = make_member(views=ShiftsAndScales(shift=1))
    assert split_views(member) == (member,)
    assert view_names("a", CenterView(), 16) == ("a",)
    assert member.pool_name == "a"


@pytest.mark.parametrize(
    ("architecture", "libraries"),
    [
        ("resnet14_small", set()),
        ("torchvision/resnet18", set()),
        ("timm/test_vit@64", {"timm"}),
        ("onnx", {"onnxruntime"}),
        ("pt2", set()),
        ("factory/nets:best", {"timm", "onnxruntime"}),
    ],
)
def test_versions_that_change_numbers_are_in_the_identity(
    make_member: MakeMember, architecture: str, libraries: set[str]
) -> None:
    versions = make_member("a", architecture=architecture).identity["libraries"]
    assert versions.keys() == {"torch", "torchvision"} | libraries
