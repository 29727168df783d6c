"""The studies that come with the project: every scale is accepted, and every row of every stage."""

import pytest

from ensemble.models import registry
from jobs.study.settings import SHIPPED, load_study
from jobs.study.variants import list_variants

SCALES = [
    (path.stem, scale)
    for path in sorted(SHIPPED.glob("*.yaml"))
    for scale in (None, *load_study(path.stem).scales)
]


@pytest.mark.parametrize(("name", "scale"), SCALES)
def test_every_row_is_valid_and_the_base_within_the_budget(name: str, scale: str | None) -> None:
    study = load_study(name, [f"scale={scale}"] if scale else [])
    base = study.base.architecture
    assert base is not None
    assert registry.ARCHITECTURES[base].parameters <= (study.max_parameters or 10**9)
    for stage in study.stages:
        assert len(list_variants(study.base, stage)) > 1
