"""From a source to a member that predicts: what it says equals what the library's own model says."""

import json
import sys
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.header import read_metadata, read_notes
from ensemble.checkpoints.load import load_network
from ensemble.errors import CheckpointError, ConfigError, UnknownNameError
from ensemble.images.shard import ImageShard
from ensemble.members.member import Member
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import TorchvisionSource, WeightsConfig
from ensemble.models.heads import find_head
from ensemble.models.libraries import at_size
from ensemble.pretrained.card import card
from ensemble.pretrained.import_member import import_member

from .conftest import CLASSES, PREPROCESSING, Import, Tiny, answers

IMAGENET = tuple(f"n{i:08d}" for i in range(1000))


def file_digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def pinned(kind: str, name: str, path: Path, **more: str) -> dict[str, str]:
    """A source whose published digest is not that of our random weights."""
    return {"kind": kind, "name": name, "sha256": file_digest(path), **more}


def of_torchvision(network: nn.Module, weights: object, shard: ImageShard) -> np.ndarray:
    """The library's own way, for torch tensors."""
    transform = weights.transforms()
    images = torch.stack(
        [transform(v2.functional.to_image(image.copy())) for image in shard.images()]
    )
    with torch.inference_mode():
        return network.eval()(images).log_softmax(dim=1).numpy()


@pytest.fixture
def mirror(weights: WeightsConfig) -> Path:
    assert weights.mirror is not None
    return weights.mirror


def test_weights_of_torchvision_say_what_they_say_there(
    bring: Import, mirror: Path, photographs: ImageShard
) -> None:
    enum = torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    network = torchvision.models.mobilenet_v3_small()
    path = mirror / "mobilenet_v3_small-047dcff4.pth"
    torch.save(network.state_dict(), path)
    member = bring(pinned("torchvision", "mobilenet_v3_small", path), IMAGENET)
    expected = of_torchvision(network, enum, photographs)
    np.testing.assert_allclose(answers(member, photographs), expected, atol=2e-3)
    assert (member.preprocessing.size, member.preprocessing.resize) == (224, 256)
    assert member.architecture == "torchvision/mobilenet_v3_small"


def test_transform_input_and_auxiliary_heads_become_preprocessing(
    bring: Import, mirror: Path, photographs: ImageShard
) -> None:
    enum = torchvision.models.GoogLeNet_Weights.IMAGENET1K_V1
    network = torchvision.models.googlenet(
        aux_logits=True, transform_input=True, init_weights=False
    )
    path = mirror / "googlenet-1378be20.pth"
    torch.save(network.state_dict(), path)
    member = bring(pinned("torchvision", "googlenet", path, weights="IMAGENET1K_V1"), IMAGENET)
    assert member.preprocessing.mean == member.preprocessing.std == (0.5, 0.5, 0.5)
    expected = of_torchvision(network, enum, photographs)
    np.testing.assert_allclose(answers(member, photographs), expected, atol=2e-3)
    assert member.parameters == 6_624_904


def test_torchvision_file_of_another_digest_is_refused(bring: Import, mirror: Path) -> None:
    (mirror / "resnet18-f37072fd.pth").write_bytes(b"x")
    with pytest.raises(
        CheckpointError, match=r"resnet18-f37072fd\.pth is not .* expected f37072fd"
    ):
        bring("torchvision:resnet18@IMAGENET1K_V1", IMAGENET)


def test_weights_that_are_not_in_the_mirror_are_named(bring: Import) -> None:
    with pytest.raises(
        CheckpointError, match=r"'resnet50-11ad3fa6\.pth' are not in weights\.mirror"
    ):
        bring("torchvision:resnet50", IMAGENET)
    with pytest.raises(
        CheckpointError, match=r"'timm/resnet50\.a1_in1k/model\.safetensors' are not in"
    ):
        bring("timm:resnet50.a1_in1k", IMAGENET)


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ("torchvision:resnet5", "no torchvision architecture 'resnet5'. Did you mean 'resnet50'"),
        ("torchvision:resnet50@IMAGENET1K_V3", "no weights of resnet50 'IMAGENET1K_V3'.*V2"),
        (
            "timm:resnet50.a9_in1k",
            r"no timm weights 'resnet50\.a9_in1k'\. Did you mean 'resnet50\.",
        ),
    ],
)
def test_unknown_names_are_refused_with_the_near_ones(
    bring: Import, source: str, match: str
) -> None:
    with pytest.raises(UnknownNameError, match=match):
        bring(source, IMAGENET)


TIMM = "test_efficientnet.r160_in1k"


def test_weights_of_timm_say_what_they_say_there(
    bring: Import, mirror: Path, photographs: ImageShard
) -> None:
    network = timm.create_model("test_efficientnet").eval()
    path = mirror / "timm" / TIMM / "model.safetensors"
    path.parent.mkdir(parents=True)
    safetensors.torch.save_file(network.state_dict(), path)
    member = bring(f"timm:{TIMM}", IMAGENET)
    config = timm.data.resolve_data_config(pretrained_cfg=network.pretrained_cfg)
    transform = timm.data.create_transform(**config)
    pil = [v2.functional.to_pil_image(image.copy()) for image in photographs.images()]
    with torch.inference_mode():
        expected = network(torch.stack([transform(image) for image in pil])).log_softmax(dim=1)
    # timm resizes 8-bit images, and we tensors.
    np.testing.assert_allclose(answers(member, photographs), expected.numpy(), atol=0.02)
    assert member.preprocessing.resize == int(160 / config["crop_pct"])


def test_repository_of_the_hub_says_what_it_is(
    bring: Import, mirror: Path, photographs: ImageShard
) -> None:
    network = timm.create_model("test_efficientnet", num_classes=7).eval()
    folder = mirror / "org" / "net"
    folder.mkdir(parents=True)
    safetensors.torch.save_file(network.state_dict(), folder / "model.safetensors")
    details = {"input_size": [3, 64, 64], "crop_pct": 1.0, "mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"architecture": "test_efficientnet", "num_classes": 7, "pretrained_cfg": details}
    (folder / "config.json").write_text(json.dumps(config))
    member = bring("hf-hub:org/net@v1")
    assert (member.architecture, member.preprocessing.size) == ("timm/test_efficientnet", 64)
    assert answers(member, photographs).shape == (2, 7)
    (folder / "config.json").write_text(json.dumps(config | {"model_args": {"depth": 3}}))
    with pytest.raises(CheckpointError, match="model_args"):
        bring("hf-hub:org/net@v1")
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="org/net is not a timm model"):
        bring("hf-hub:org/net@v1")


@pytest.fixture
def resnet(tmp_path: Path) -> tuple[nn.Module, Path]:
    network = torchvision.models.resnet18(num_classes=7).eval()
    path = tmp_path / "resnet.pth"
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    return network, path


def given(path: Path, architecture: str = "torchvision/resnet18", **more: str) -> dict[str, str]:
    return {"kind": "checkpoint", "path": str(path), "architecture": architecture, **more}


def test_checkpoint_of_a_librarys_architecture_is_a_member(
    bring: Import, resnet: tuple[nn.Module, Path], photographs: ImageShard
) -> None:
    network, path = resnet
    member = bring(given(path), preprocessing=PREPROCESSING)
    loaded = load_network(member)
    images = torch.rand(2, 3, 40, 40)
    with torch.inference_mode():
        assert torch.equal(loaded(images), network(images))
    assert (member.head, member.classes) == ("fc", tuple(range(7)))
    assert answers(member, photographs).shape == (2, 7)


def test_checkpoint_of_timms_architecture_and_of_ours_is_a_member(
    bring: Import, tmp_path: Path
) -> None:
    network = timm.create_model("test_efficientnet", num_classes=7)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "a.safetensors")
    member = bring(
        given(tmp_path / "a.safetensors", "timm/test_efficientnet"), preprocessing=PREPROCESSING
    )
    assert member.parameters == sum(p.numel() for p in network.parameters())
    ours = checkpoint.models.build("resnet14_small", 7)
    torch.save(ours.state_dict(), tmp_path / "b.pt")
    assert (
        bring(given(tmp_path / "b.pt", "resnet14_small"), preprocessing=PREPROCESSING).head
        == "head"
    )


def test_weights_of_another_architecture_are_refused(
    bring: Import, resnet: tuple[nn.Module, Path]
) -> None:
    for architecture in ("torchvision/resnet34", "resnet14_small", "timm/test_efficientnet"):
        with pytest.raises(CheckpointError, match="do not fit"):
            bring(given(resnet[1], architecture), preprocessing=PREPROCESSING)


def test_the_same_weights_are_the_same_column_wherever_they_lie(
    bring: Import, resnet: tuple[nn.Module, Path], tmp_path: Path
) -> None:
    first = bring(given(resnet[1]), preprocessing=PREPROCESSING)
    moved = resnet[1].rename(tmp_path / "moved.pth")
    again = bring(given(moved), preprocessing=PREPROCESSING)
    assert again == first
    other = bring(given(moved), preprocessing=PREPROCESSING | {"size": 33})
    assert other.column != first.column


def test_damaged_checkpoint_that_was_kept_is_made_again_and_that_is_said(
    resnet: tuple[nn.Module, Path], weights: WeightsConfig, tmp_path: Path
) -> None:
    settings = {"name": "m", "source": given(resnet[1]), "preprocessing": PREPROCESSING}
    config, said = MemberConfig.model_validate(settings), list[str]()

    def bring_in() -> Path:
        return import_member(config, CLASSES, weights, tmp_path / "cache", said.append)

    path = bring_in()
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[len(sound) // 2] ^= 1
    path.write_bytes(damaged)
    assert bring_in() == path
    assert path.read_bytes() == sound
    assert said == [f"{path} is damaged and is made again from {resnet[1]}"]
    assert bring_in() == path
    assert len(said) == 1


def test_pinned_digest_is_checked(bring: Import, resnet: tuple[nn.Module, Path]) -> None:
    digest = file_digest(resnet[1])
    bring(given(resnet[1], sha256=digest[:12]), preprocessing=PREPROCESSING)
    with pytest.raises(CheckpointError, match=r"is not the file that was pinned"):
        bring(given(resnet[1], sha256="0" * 12), preprocessing=PREPROCESSING)


def test_preprocessing_that_nobody_knows_must_be_said(
    bring: Import, resnet: tuple[nn.Module, Path]
) -> None:
    with pytest.raises(ConfigError, match=r"preprocessing of 'm' lacks size, mean, std"):
        bring(given(resnet[1]))
    with pytest.raises(ConfigError, match=r"preprocessing of 'm' lacks mean, std"):
        bring(given(resnet[1]), preprocessing={"size": 32})


def test_preprocessing_of_the_weights_can_be_overridden_in_parts(
    bring: Import, mirror: Path
) -> None:
    network = timm.create_model("test_efficientnet")
    path = mirror / "timm" / TIMM / "model.safetensors"
    path.parent.mkdir(parents=True)
    safetensors.torch.save_file(network.state_dict(), path)
    plain = bring(f"timm:{TIMM}", IMAGENET).preprocessing
    said = {"resize": None, "mean": [0.1, 0.2, 0.3]}
    changed = bring(f"timm:{TIMM}", IMAGENET, preprocessing=said).preprocessing
    assert plain.resize is not None
    assert changed == plain.model_copy(update={"resize": None, "mean": (0.1, 0.2, 0.3)})


def _says(member: Member, shard: ImageShard) -> np.ndarray:
    return answers(member, shard)


def test_background_class_and_shuffled_outputs_are_put_in_order(
    bring: Import, tmp_path: Path, photographs: ImageShard
) -> None:
    network = torchvision.models.resnet18(num_classes=7).eval()
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    expected = _says(bring(given(tmp_path / "plain.pth"), preprocessing=PREPROCESSING), photographs)
    weight, bias = network.fc.weight.detach().clone(), network.fc.bias.detach().clone()

    def saved(name: str, rows: list[int]) -> dict[str, str]:
        # Output i of the file is class rows[i]; -1 is a background that is sure of itself.
        state = network.state_dict()
        state["fc.weight"] = torch.stack([weight[r] if r >= 0 else weight[0] * 0 for r in rows])
        state["fc.bias"] = torch.stack([bias[r] if r >= 0 else bias[0] + 99 for r in rows])
        torch.save(state, tmp_path / name)
        return given(tmp_path / name)

    background = saved("background.pth", [-1, 0, 1, 2, 3, 4, 5, 6])
    with pytest.raises(
        ConfigError, match=r"has 8 outputs, and the images have 7 classes.*set label_map"
    ):
        bring(background, preprocessing=PREPROCESSING)
    member = bring(background, preprocessing=PREPROCESSING, label_map="background_first")
    np.testing.assert_allclose(_says(member, photographs), expected, atol=1e-5)
    order = [3, 1, -1, 0, 2, 6, 5, 4]
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(CLASSES[row] if row >= 0 else "background" for row in order))
    member = bring(saved("order.pth", order), preprocessing=PREPROCESSING, label_map=str(labels))
    np.testing.assert_allclose(_says(member, photographs), expected, atol=1e-5)
    assert member.classes == tuple(range(7))


FACTORY = """
import torch
from torch import nn

def good():
    torch.manual_seed(5)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 8))

def softmax():
    return good().append(nn.Softmax(dim=1))

def sigmoid():
    return good().append(nn.Sigmoid())

def broken():
    network = good()
    network[0].weight.data[0] = float("nan")
    return network

def text():
    return "a network"
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "user_nets.py").write_text(FACTORY)
    sys.path.insert(0, str(tmp_path / "modules"))
    yield "user_nets"
    sys.path.remove(str(tmp_path / "modules"))
    sys.modules.pop("user_nets", None)


def test_factory_is_a_member_if_it_is_trusted(
    bring: Import, nets: str, photographs: ImageShard
) -> None:
    settings = {"preprocessing": PREPROCESSING, "label_map": "background_first"}
    with pytest.raises(CheckpointError, match=r"runs code of its own .*weights\.trust_code=true"):
        bring(f"factory:{nets}:good", **settings)
    assert nets not in sys.modules
    member = bring(f"factory:{nets}:good", trust_code=True, **settings)
    assert answers(member, photographs).shape == (2, 7)
    assert find_head(load_network(member), 7) == "3"
    with pytest.raises(CheckpointError, match="runs code of its own"):
        bring({"kind": "checkpoint", "path": str(member.checkpoint)})


@pytest.mark.parametrize("ending", ["softmax", "sigmoid"])
@pytest.mark.parametrize("label_map", [None, "background_first"])
def test_factory_that_does_not_give_logits_is_not_squashed_twice(
    bring: Import, nets: str, photographs: ImageShard, ending: str, label_map: str | None
) -> None:
    classes = CLASSES if label_map else (*CLASSES, "h")
    settings = {"preprocessing": PREPROCESSING, "label_map": label_map}
    plain, ended = (
        bring(f"factory:{nets}:{name}", classes, trust_code=True, **settings)
        for name in ("good", ending)
    )
    # Of a softmax over all outputs those that are left are renormalised, which is the same.
    np.testing.assert_allclose(answers(ended, photographs), answers(plain, photographs), atol=1e-5)
    assert "taken as logits" in read_metadata(ended.checkpoint)["notes"]
    assert "notes" not in read_metadata(plain.checkpoint)
    moved = bring(
        f"checkpoint:{ended.checkpoint}", classes, trust_code=True, preprocessing={"resize": None}
    )
    np.testing.assert_array_equal(answers(moved, photographs), answers(ended, photographs))


def test_weights_with_nan_are_refused_whatever_the_source(
    bring: Import, nets: str, tmp_path: Path
) -> None:
    with pytest.raises(
        CheckpointError, match=r"NaN or infinity in the weights .*: in 1 tensors, .* of 0\.weight"
    ):
        bring(f"factory:{nets}:broken", trust_code=True, preprocessing=PREPROCESSING)
    for build, architecture in (
        (torchvision.models.resnet18, "torchvision/resnet18"),
        (
            lambda num_classes: timm.create_model("test_resnet", num_classes=num_classes),
            "timm/test_resnet",
        ),
        (
            lambda num_classes: checkpoint.models.build("resnet14_small", num_classes),
            "resnet14_small",
        ),
    ):
        state = build(num_classes=7).state_dict()
        first = next(iter(state))
        state[first].view(-1)[1] = torch.nan
        torch.save(state, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=r"NaN or infinity in the weights .*a\.pth: in 1"):
            bring(given(tmp_path / "a.pth", architecture), preprocessing=PREPROCESSING)
        state[first] = state[first].nan_to_num().mul(9).to(torch.int8)
        torch.save(state, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match="holds int8, and the network needs floats"):
            bring(given(tmp_path / "a.pth", architecture), preprocessing=PREPROCESSING)


@pytest.mark.parametrize("prefix", ["", "_orig_mod.module.", "model._orig_mod.", "net.", "a.b."])
def test_weights_of_timm_below_any_prefix_are_the_same_member(
    bring: Import, tmp_path: Path, photographs: ImageShard, prefix: str
) -> None:
    network = timm.create_model("test_resnet", num_classes=7).eval()
    state = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    if prefix:
        state["criterion.weight"] = torch.ones(7)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    member = bring(given(tmp_path / "a.pth", "timm/test_resnet"), preprocessing=PREPROCESSING)
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load_network(member)(images), network(images))
    notes = json.loads(read_metadata(member.checkpoint).get("notes", "[]"))
    assert notes == (["tensors of the file that were ignored: criterion.weight"] if prefix else [])


def test_a_vision_transformer_is_a_member_at_another_size(
    bring: Import, tmp_path: Path, photographs: ImageShard
) -> None:
    network = timm.create_model("test_vit", num_classes=7, img_size=64).eval()
    torch.save(network.state_dict(), tmp_path / "a.pth")
    settings = PREPROCESSING | {"size": 64}
    member = bring(given(tmp_path / "a.pth", "timm/test_vit"), preprocessing=settings)
    assert member.architecture == "timm/test_vit@64"
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_network(member)(images), network(images))
    assert answers(member, photographs).shape == (2, 7)
    again = bring(f"checkpoint:{member.checkpoint}", preprocessing={"resize": 80})
    assert again.architecture == "timm/test_vit@64"
    assert read_notes(member.checkpoint) == ()
    other = bring(given(tmp_path / "a.pth", "timm/test_vit"), preprocessing=settings | {"size": 96})
    (note,) = read_notes(other.checkpoint)
    assert note.startswith("pos_embed was resampled from [1, 17, 64] to [1, 37, 64]")


@pytest.mark.parametrize(
    ("architecture", "size", "name"),
    [
        ("torchvision/vit_b_16", 224, "torchvision/vit_b_16"),
        ("torchvision/vit_b_16", 384, "torchvision/vit_b_16@384"),
        ("torchvision/vit_b_16@384", 384, "torchvision/vit_b_16@384"),
        ("timm/vit_tiny_patch16_224", 384, "timm/vit_tiny_patch16_224@384"),
        ("timm/vit_small_patch14_dinov2", 518, "timm/vit_small_patch14_dinov2"),
        ("timm/resnet50", 384, "timm/resnet50"),
        ("torchvision/resnet18", 384, "torchvision/resnet18"),
        ("resnet14_small", 384, "resnet14_small"),
        ("onnx", 384, "onnx"),
    ],
)
def test_an_architecture_of_one_size_is_named_by_another(
    architecture: str, size: int, name: str
) -> None:
    assert at_size(architecture, size) == name


def test_torchvisions_published_transformer_of_384_pixels_is_built_for_them() -> None:
    source = TorchvisionSource(name="vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")
    described = card(
        MemberConfig.model_validate({"name": "m", "source": source}),
        WeightsConfig(mirror=Path("/x")),
    )
    assert described.architecture == "torchvision/vit_b_16@384"
    assert described.parameters == 86_859_496, "as torchvision says"


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("user_nets:bad", "cannot be imported: module 'user_nets' has no attribute 'bad'"),
        ("no_such_nets:good", "cannot be imported: No module named 'no_such_nets'"),
        ("user_nets:text", r"returned str; expected an nn\.Module"),
    ],
)
def test_factory_that_is_none_is_refused(bring: Import, nets: str, name: str, match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        bring(f"factory:{name}", trust_code=True, preprocessing=PREPROCESSING)


def test_checkpoint_of_ours_is_used_as_it_lies(
    bring: Import, resnet: tuple[nn.Module, Path]
) -> None:
    member = bring(given(resnet[1]), preprocessing=PREPROCESSING)
    again = bring(f"checkpoint:{member.checkpoint}")
    assert again == member
    changed = bring(f"checkpoint:{member.checkpoint}", preprocessing={"size": 40})
    assert changed.preprocessing.size == 40
    assert changed.checkpoint != member.checkpoint
    with pytest.raises(CheckpointError, match="need `architecture`, as timm/resnet50"):
        bring(f"checkpoint:{resnet[1]}")


def test_last_convolution_is_the_head_of_a_network_without_a_linear_layer(
    bring: Import, tmp_path: Path
) -> None:
    network = torchvision.models.squeezenet1_1(num_classes=7)
    torch.save(network.state_dict(), tmp_path / "a.pth")
    source = given(tmp_path / "a.pth", "torchvision/squeezenet1_1")
    assert bring(source, preprocessing=PREPROCESSING).head == "classifier.1"


def test_tiny_is_what_the_other_tests_take_it_for() -> None:
    assert Tiny()(torch.rand(2, 3, 9, 9)).shape == (2, 7)
