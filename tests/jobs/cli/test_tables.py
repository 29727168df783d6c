import pytest
from rich.console import Console, RenderableType

from ensemble.report.documents.search import SearchReport
from ensemble.report.documents.weights import Cost, Difference
from jobs.cli.tables import result_table, search_table

from ...ensemble.report.conftest import make_report as make_run_report

BETTER = Difference(
    difference=-0.013,
    low=-0.0221,
    high=-0.005,
    level=0.95,
    resamples=1000,
    mcnemar_p=0.0004,
    fixed=20,
    broken=7,
)
COSTS = tuple(
    Cost(key=key, label=key, networks=2, parameters=1_970_000, flops=9.7e8, depth=28, seconds=0.2)
    for key in ("best", "ensemble", "uniform_all")
)


def make_report(**changes: object) -> SearchReport:
    labels = {
        "best": "best member (resnet224-b)",
        "uniform_all": "uniform over all 13",
        "uniform_selected": "uniform over the 5 selected",
        "ensemble": "weighted ensemble",
    }
    rows = [
        {
            "key": key,
            "label": label,
            "members": 13,
            "n": 1000,
            "errors": 41,
            "error": 0.041,
            "nll": 0.1234,
            "against_best": None if key == "best" else BETTER,
            "against_uniform": None if key == "uniform_all" else BETTER,
        }
        for key, label in labels.items()
    ]
    temperature = {"value": 1, "nll_before": 0.2, "nll_after": 0.2, "is_kept": False}
    return SearchReport.model_validate(
        {
            "run": "digits",
            "config_sha256": "a" * 64,
            "data_sha256": "b" * 64,
            "settings": {},
            "search": "line",
            "k": 1,
            "classes": 10,
            "search_images": 600,
            "judged_images": 1000,
            "is_cross_fitted": False,
            "cost_unit": None,
            "warnings": (),
            "results": rows,
            "members": (),
            "stability": None,
            "frontier": (),
            "fallbacks": (),
            "costs": COSTS,
            "average_temperature": temperature,
            "execution": {"seconds": 1, "versions": {}},
            **changes,
        }
    )


def printed(table: RenderableType, width: int) -> str:
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("width", [80, 120])
def test_numbers_and_names_stay_whole_at_80_columns_and_at_120(width: int) -> None:
    text = printed(search_table(make_report()), width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    words = text.split()
    for number, times in (("0.1234", 4), ("4.10%", 4), ("[-2.21,-0.50]", 6), ("p<0.001", 6)):
        assert words.count(number) == times
    assert "(resnet224-b)" in words


def test_the_table_says_what_an_image_costs_where_that_is_known() -> None:
    text = printed(search_table(make_report()), 80)
    assert "1.97 M" in text
    assert "970 M" in text
    unknown = tuple(Cost(key=cost.key, label=cost.label, networks=2) for cost in COSTS)
    assert "costs" not in printed(search_table(make_report(costs=unknown)), 80)


@pytest.mark.parametrize(("top_k", "columns"), [(1, 1), (3, 2)])
def test_a_top_k_error_stands_in_one_column_alone(top_k: int, columns: int) -> None:
    report = make_run_report(has_subclassifiers=False).model_copy(update={"k": 1, "top_k": top_k})
    console = Console(width=120, record=True, quiet=False)
    console.print(result_table(report))
    head = console.export_text().split("─")[0]
    assert sum(f"top-{k}" in head for k in (1, 2, 3)) == columns
    assert head.count("top-1") == 1
