"""The studies that come with the project: every scale is accepted, and every row of every stage."""

import re

import pytest
import yaml

from ensemble.config import check
from jobs.study.pretraining import make_pretrained
from jobs.study.settings import SHIPPED, StudyConfig, load_study
from jobs.study.variants import BASE, count_parameters, list_variants, make_variant

SCALES = [
    (path.stem, scale)
    for path in sorted(SHIPPED.glob("*.yaml"))
    for scale in (None, *load_study(path.stem).scales)
]


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_row_is_valid_and_the_base_within_the_budget(name: str, scale: str | None) -> None:
    study = load_study(name, [f"scale={scale}"] if scale else [])
    base = make_variant(BASE, study.base)
    assert count_parameters(base.architecture, 10) <= (study.max_parameters or 10**9)
    other = make_pretrained(study, study.pretraining) if study.pretraining else None
    for stage in study.stages:
        assert len(list_variants(base, stage, other)) > 1 or stage.subclassifiers is not None


def test_the_study_in_the_readme_is_valid() -> None:
    match = re.search(r"```yaml\n(.*?)```", (SHIPPED / "README.md").read_text(), re.DOTALL)
    assert match is not None
    study = check(StudyConfig, yaml.safe_load(match[1]), "the README")
    base = make_variant(BASE, study.base)
    assert study.pretraining is not None
    other = make_pretrained(study, study.pretraining)
    rows = [row.name for stage in study.stages for row in list_variants(base, stage, other)]
    assert {"adam", "epochs30-label_smoothing0.1", "wide", "blocks9-9-9", "all-images"} <= set(rows)
