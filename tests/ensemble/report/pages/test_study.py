"""The page of a study: every row and reason, escaped, and nothing loaded from elsewhere."""

from ensemble.report.documents.study import (
    BaseDifference,
    SeedMean,
    SeedValue,
    StudyClusters,
    StudyReport,
    StudyRow,
    StudyStage,
)
from ensemble.report.documents.subclassifiers import (
    ClusteredLabels,
    LabelCluster,
    RoutingPoint,
    RoutingTrial,
)
from ensemble.report.pages.study import render


def _row(name: str, **changes: object) -> StudyRow:
    figures = {
        "validation": SeedMean(mean=0.25, sd=0.01),
        "test": SeedMean(mean=0.3, sd=0.02),
        "seconds": 12.0,
        "chosen_share": 0.5,
    }
    return StudyRow.model_validate(
        {"name": name, "architecture": "net", "settings": {}, "parameters": 1234, "n": 3}
        | figures
        | changes
    )


def test_a_page_has_every_row_and_escapes_reasons() -> None:
    against = BaseDifference(difference=-0.02, low=-0.04, high=0.0, level=0.95, detectable=0.03)
    broken = {"validation": None, "test": None, "seconds": None, "chosen_share": None, "n": 0}
    rows = (
        _row("base"),
        _row("wider", against_base=against, is_winner=True),
        _row("both", adds_validation=True, validation=None, chosen_share=None),
        _row("broken", reason="a <script> failed", **broken),
    )
    report = StudyReport(
        name="s",
        scale="small",
        images="digits",
        validation_images=200,
        test_images=300,
        seeds=3,
        max_parameters=2000,
        resamples=100,
        stages=(StudyStage(name="first", keeps_base=False, rows=rows),),
    )
    page = render(report)
    assert all(row.name in page for row in rows)
    assert "a &lt;script&gt; failed" in page
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "small" in page
    assert page.count("trained on") == 1


def test_a_page_has_averages_and_the_accuracies_of_label_clusters() -> None:
    average = _row("two", average_of={"base": 2}, n=1, chosen_share=None, seconds=None)
    accuracies = dict.fromkeys(("base_top1_accuracy", "sub_top1_accuracy"), 0.625)
    labels = ClusteredLabels(
        num_clusters=2,
        clusters=(
            LabelCluster(index=0, classes=(0, 2), train_images=5, test_images=8, **accuracies),
            LabelCluster(index=1, classes=(1,), train_images=5, test_images=0),
        ),
        stability=(1.0,),
        trials=(RoutingTrial(gate="entropy", kind="hard", held_out_errors=1, routed=2),),
        best=0,
        paper=RoutingPoint(search_errors=1, routed=2),
    )
    mean = SeedMean(mean=0.8125, sd=None)
    clusters = StudyClusters(
        num_clusters=2,
        base=mean,
        restricted=mean,
        sub=mean,
        top_k=3,
        restricted_topk=mean,
        sub_topk=mean,
        routed_share=mean,
        adjusted_rand=SeedValue(mean=-0.125, sd=0.5),
        mutual_information=SeedValue(mean=0.25, sd=None),
        seeds=(labels,),
    )
    stage = StudyStage(
        name="first",
        keeps_base=True,
        rows=(_row("base", is_winner=True), average),
        clusters=(clusters,),
        groups=("animals", "vehicles"),
        classes=("cat", "<car>", "dog"),
    )
    page = render(
        StudyReport(
            name="s",
            scale=None,
            images="digits",
            validation_images=200,
            test_images=300,
            seeds=2,
            max_parameters=None,
            k=5,
            resamples=100,
            stages=(stage,),
        )
    )
    for text in ("average of", "top-5 error", "81.2", "cat, dog", "&lt;car&gt;", "0.25"):
        assert text in page
    assert "<script" not in page
