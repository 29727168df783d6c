"""A cost bound counts everything that answers, and both errors of a label map onto some classes are told."""

import json
from pathlib import Path

import pytest

from ensemble.report.documents.run import Report

from ..conftest import Command

pytestmark = pytest.mark.ray


def read_report(folder: Path) -> Report:
    return Report.model_validate_json((folder / "report.json").read_text())


def test_every_report_says_what_an_image_costs(finished_runs: Path) -> None:
    report = read_report(finished_runs / "tiny")
    costs = {cost.key: cost for cost in report.costs}
    assert {"best", "ensemble", "uniform_all"} <= set(costs)
    assert costs["uniform_all"].parameters == sum(member.parameters for member in report.members)
    assert costs["uniform_all"].depth == sum(member.depth or 0 for member in report.members)
    by_name = {member.name: member for member in report.members}
    assert by_name["resnet-0"].depth == 14
    assert all(cost.flops for cost in report.costs)
    assert report.execution.seconds_per_image["uniform_all"] > 0


def test_nothing_that_answers_is_beyond_a_cost_bound(
    runs: Path, command: Command, tiny_config: Path, tmp_path: Path
) -> None:
    cheapest = min(member.parameters for member in read_report(runs / "tiny").members)
    words = ["search.cost=parameters", f"search.max_cost={cheapest * 1.2:.0f}", "name=bounded"]
    done = command("run", tiny_config, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "bounded"
    report = read_report(folder)
    document = json.loads((folder / "ensemble" / "ensemble.json").read_text())
    held = {member["name"] for member in document["members"]}
    assert sum(m.parameters for m in report.members if m.name in held) == cheapest
    assert document["routing"] is None
    note = "No sub-classifiers were trained"
    assert any(note in warning for warning in report.search.warnings)
    assert note in done.stdout
    searched = command("search", "runs/tiny", *words[:2], "stability=0", cwd=tmp_path)
    assert searched.returncode == 0, searched.stderr


def test_depth_bounds_a_search_of_a_run_and_of_a_finished_run(runs: Path, command: Command) -> None:
    words = ["cost=depth", "max_cost=14", "stability=0"]
    done = command("search", runs / "tiny", *words)
    assert done.returncode == 0, done.stderr
    (folder,) = (runs / "tiny" / "search").glob("auto-*")
    report = json.loads((folder / "search-report.json").read_text())
    assert report["cost_unit"] == "depth"
    assert sum(member["cost"] for member in report["members"] if member["weight"]) <= 14


def test_a_label_map_onto_some_classes_tells_both_errors(
    finished_runs: Path, command: Command, tmp_path: Path
) -> None:
    weights = next((finished_runs / "cache").glob("mobilenet_v2_small-*.safetensors"))
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    pictures(tmp_path / "images", names[:4])
    (tmp_path / "names.txt").write_text("\n".join(names))
    (tmp_path / "some.yaml").write_text(
        f"""
images: {{source: {{kind: folder, path: images}}, split: {{train: 0, search: 40, test: 60}}}}
views: {{kind: center}}
members:
  - name: mapped
    source: {{kind: checkpoint, path: {weights}}}
    label_map: names.txt
cluster: {{device: cpu, hosts: 1, object_store_mb: 128}}
"""
    )
    done = command("run", "some.yaml", "name=some", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (member,) = read_report(tmp_path / "runs" / "some").members
    both = member.among_all
    assert both is not None
    assert (both.outputs, both.n) == (10, 60)
    assert both.errors_among_classes == member.test.top1_errors
    assert both.errors_among_all >= both.errors_among_classes
    assert f"{both.errors_among_all / 60:.2%} among all 10 outputs" in done.stdout


def pictures(folder: Path, names: list[str]) -> None:
    """Write digits of some classes as a folder of images."""
    from PIL import Image

    from ensemble.images.open import open_source
    from ensemble.images.settings import DigitsConfig

    source = open_source(DigitsConfig())
    index = source.index()
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for image_id in index.image_ids[index.labels == label][:30]:
            file = folder / name / f"{str(image_id).replace('/', '-')}.png"
            Image.fromarray(source.decode(str(image_id))).save(file)
