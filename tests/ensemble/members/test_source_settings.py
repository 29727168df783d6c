import pytest

from ensemble.config import Config, check
from ensemble.errors import ConfigError
from ensemble.members.settings import MemberConfig
from ensemble.members.source_settings import Source


class Holder(Config):
    """One source."""

    source: Source


@pytest.mark.parametrize(
    ("line", "mapping"),
    [
        ("torchvision:resnet50", {"kind": "torchvision", "name": "resnet50"}),
        (
            "torchvision:resnet50@IMAGENET1K_V2",
            {"kind": "torchvision", "name": "resnet50", "weights": "IMAGENET1K_V2"},
        ),
        ("timm:resnet50.a1_in1k", {"kind": "timm", "name": "resnet50.a1_in1k"}),
        ("hf-hub:org/name", {"kind": "hf-hub", "repository": "org/name"}),
        ("hf-hub:org/name@v1", {"kind": "hf-hub", "repository": "org/name", "revision": "v1"}),
        ("factory:package.nets:best", {"kind": "factory", "function": "package.nets:best"}),
        ("pt2:/a/b@c.pt2", {"kind": "pt2", "path": "/a/b@c.pt2"}),
        ("onnx:nets/a.onnx", {"kind": "onnx", "path": "nets/a.onnx"}),
        ("checkpoint:a.safetensors", {"kind": "checkpoint", "path": "a.safetensors"}),
    ],
)
def test_line_means_the_mapping(line: str, mapping: dict[str, str]) -> None:
    assert check(Holder, {"source": line}, "x") == check(Holder, {"source": mapping}, "x")


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (
            "resnet50",
            r"cannot read the source 'resnet50'; expected one of torchvision:NAME@WEIGHTS",
        ),
        ("torchvison:resnet50", r"cannot read the source 'torchvison:resnet50'"),
        ("timm:", "cannot read the source 'timm:'"),
        ("http://example.org/a.pth", "cannot read the source"),
        ("hf-hub:name", r"source\.repository: .*not of the form"),
        ("factory:package.nets", r"source\.function: .*not of the form"),
        ({"kind": "tim", "name": "x"}, r"source: no kind 'tim'\. Did you mean 'timm'"),
        ({"kind": "onnx", "path": "x", "sha256": "0x12"}, r"sha256: .*not of the form"),
        ({"kind": "timm", "nam": "x"}, r"no such setting\. Did you mean 'name'"),
        (
            {"kind": "checkpoint", "path": "x", "architecture": "resnt14_small"},
            r"no architecture 'resnt14_small'\. Did you mean 'resnet14_small'",
        ),
    ],
)
def test_source_that_cannot_be_read_is_refused(wrong: object, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        check(Holder, {"source": wrong}, "x")


def test_source_survives_its_own_json() -> None:
    member = check(MemberConfig, {"name": "a", "source": "torchvision:resnet50@V"}, "x")
    assert MemberConfig.model_validate_json(member.model_dump_json()) == member


def test_schema_knows_lines_and_mappings() -> None:
    forms = MemberConfig.model_json_schema()["properties"]["source"]["anyOf"]
    assert {"type": "string"} in forms
    assert len(forms) == 10


def test_preprocessing_may_say_that_an_image_is_stretched() -> None:
    settings = {"name": "a", "source": "timm:x", "preprocessing": {"resize": None}}
    said = check(MemberConfig, settings, "x").preprocessing
    assert said is not None
    assert said.model_fields_set == {"resize"}


def test_a_home_folder_is_meant_by_its_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    member = {"name": "a", "label_map": "~/labels.txt"}
    for source in ("checkpoint:~/a.pth", {"kind": "checkpoint", "path": "~/a.pth"}, "onnx:~/a.pth"):
        config = check(MemberConfig, member | {"source": source}, "x")
        assert str(config.source.path) == "/home/me/a.pth"
        assert str(config.label_map) == "/home/me/labels.txt"
    with pytest.raises(ConfigError, match=r"'~nobody-here/a\.pth' begins with ~, and no such home"):
        check(Holder, {"source": "checkpoint:~nobody-here/a.pth"}, "x")
