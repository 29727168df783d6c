import base64
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensemble.checkpoints import file as checkpoint
from ensemble.evaluation import metrics
from ensemble.evaluation.calibration import Temperature
from ensemble.evaluation.outcome import Outcome, evaluate
from ensemble.evaluation.reading import build_outranking
from ensemble.images.index import ImageIndex
from ensemble.images.shard import BadImage
from ensemble.images.split import Splits
from ensemble.members.member import Member
from ensemble.models.registry import build as build_network
from ensemble.outranking.weighting import Weighting
from ensemble.report.build.findings import Findings, frontier_key
from ensemble.report.build.run import build
from ensemble.report.build.subclassifiers import MAX_CURVE_POINTS
from ensemble.report.build.views import networks_by_views, seen_image
from ensemble.report.documents import provenance
from ensemble.report.documents import run as document
from ensemble.report.pages.run import render
from ensemble.search.comparison import Predictor
from ensemble.search.outcome import SearchOutcome, outcome_of
from ensemble.search.recommend import Recommendation
from ensemble.search.result import Ensemble
from ensemble.search.settings import SearchConfig
from ensemble.search.weights import best_member
from ensemble.subclassifiers.answers import CalibrationOnTest, evaluate_routed, gather_evidence
from ensemble.subclassifiers.choose import cross_validate, fit_paper
from ensemble.subclassifiers.findings import (
    Clustered,
    RoutedTest,
    Subclassified,
    SubclassifiersOnTest,
)
from ensemble.subclassifiers.gates import entropy
from ensemble.subclassifiers.route import Routing
from ensemble.subclassifiers.settings import SubclassifiersConfig
from ensemble.table.block import LogitBlock
from ensemble.table.logit_table import LogitTable
from ensemble.views.settings import MultiCrop

MakeMember = Callable[..., Member]
MakeBlock = Callable[..., LogitBlock]

CLASSES = ("ant", "bee", "cow", "doe")
CLUSTERS = ((0, 2), (1, 3))
WEIGHTS = np.array([1.0, 0.5, 0.0])
HUNDREDTHS = np.array([100, 50, 0])

IDENTITY = provenance.Identity(
    config_sha256="a" * 64, data_sha256="b" * 64, seed=0, versions={"torch": "2"}
)
EXECUTION = provenance.Execution(
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    host="here",
    hosts=1,
    seconds_total=1,
    stages=(),
    shard_images=8,
    trained=0,
    from_cache=3,
    forward_passes=0,
    decoded_images=0,
    images_per_s=0,
    retries=provenance.Retries(calls=0, requests=0),
    versions={},
)


@dataclass(frozen=True)
class World:
    """A filled table and all that the stages would have found."""

    table: LogitTable
    findings: Findings

    def outcome(self, **changes: object) -> SearchOutcome:
        """What the search found, with changes."""
        return replace(self.findings.outcome, **changes)

    def report(self, **changes: object) -> document.Report:
        findings = replace(self.findings, **changes)
        return build("run", IDENTITY, (2, 200, 6), findings, self.table, decode, EXECUTION)


def decode(image_id: str) -> np.ndarray:
    return np.full((200, 100, 3), int(image_id.removeprefix("image-")) % 256, np.uint8)


def splits() -> Splits:
    rng = np.random.default_rng(5)
    parts = []
    for start, count in ((0, 20), (20, 60), (80, 120)):
        image_ids = np.array([f"image-{i:03d}" for i in range(start, start + count)])
        labels = np.resize(np.arange(4), count)
        parts.append(ImageIndex("made up", image_ids, rng.permutation(labels), CLASSES))
    return Splits(*parts)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, make_member: MakeMember, make_block: MakeBlock
) -> World:
    folder = Path(tmp_path_factory.mktemp("build"))
    weights = folder / "base.safetensors"
    checkpoint.save(build_network("alexnet_small", 4), weights, {})
    members = tuple(make_member(name, 4, checkpoint=weights, seed=1) for name in ("x", "y", "z"))
    told = folder / "sub.safetensors"
    checkpoint.save(build_network("alexnet_small", 2), told, {"epochs": "5", "best_epoch": "2"})
    subs = tuple(
        make_member(f"s{i}", 2, classes=group, checkpoint=told) for i, group in enumerate(CLUSTERS)
    )
    parts, table = splits(), LogitTable(folder / "table")
    image_ids = [*parts.search.image_ids.tolist(), *parts.test.image_ids.tolist()]
    for member in (*members, *subs):
        table.commit(member, make_block(member, image_ids))
    return World(table, find(table, parts, members, subs))


def find(
    table: LogitTable, parts: Splits, members: tuple[Member, ...], subs: tuple[Member, ...]
) -> Findings:
    outranking = build_outranking(table, members, parts.search)
    ensemble = Ensemble(("x", "y", "z"), WEIGHTS, "paper", 1, 12, 60)
    weightings = {
        "uniform_all": Weighting(np.full(3, 100)),
        "uniform_selected": Weighting(np.array([100, 100, 0])),
        "ensemble": Weighting(HUNDREDTHS),
    }
    found = subclassified(table, parts, members, dict(enumerate(subs)))
    first = evaluate(table, members, parts.test, {"first": Weighting(HUNDREDTHS)})["first"]
    on_test = [
        RoutedTest(fitted, *evaluate_routed(table, members, parts.test, fitted))
        for fitted in (found.fitted_as_paper(), found.fitted())
    ]
    return Findings(
        splits=parts,
        bad=(BadImage("image-999", "torn"),),
        members=members,
        outcome=replace(
            outcome_of(outranking, SearchConfig(), ensemble),
            recommendation=Recommendation("ensemble", (), "It is made up."),
        ),
        outranking=outranking,
        search=evaluate(table, members, parts.search, {}),
        test=evaluate(table, members, parts.test, weightings),
        subclassifiers=found,
        routed=SubclassifiersOnTest(first, *on_test),
        subclassifier_settings=SubclassifiersConfig(),
    )


def subclassified(
    table: LogitTable, parts: Splits, members: tuple[Member, ...], subs: dict[int, Member]
) -> Subclassified:
    """Made up, so that the gate opens whatever the made-up networks are worth."""
    stopping, choosing = (parts.search.take(np.arange(first, 60, 2)) for first in (0, 1))
    evidence = gather_evidence(table, members, choosing, Weighting(HUNDREDTHS), CLUSTERS, subs)
    trial = cross_validate(evidence, "entropy", "hard", seed=0)
    routing = Routing(CLUSTERS, (0, 1), float(np.median(entropy(evidence.base))))
    opened = replace(trial, routing=routing, held_out_wrong=np.zeros(len(choosing), np.bool_))
    paper, curve = fit_paper(evidence)
    return Subclassified(
        member=members[0],
        first="weighted ensemble",
        weighting=Weighting(HUNDREDTHS),
        similarity=np.eye(4),
        stopping=stopping,
        choosing=choosing,
        tried=(Clustered(2, CLUSTERS, (1.0, 0.5), subs, {}, paper, curve, (opened,)),),
        answer_wrong=evidence.is_base_wrong,
        recommended_wrong=evidence.is_base_wrong,
    )


def with_trial(findings: Findings, **changes: object) -> Subclassified:
    assert findings.subclassifiers is not None
    tried = findings.subclassifiers.tried[0]
    trial = replace(tried.trials[0], **changes)
    return replace(findings.subclassifiers, tried=(replace(tried, trials=(trial,)),))


def test_best_member_has_the_fewest_errors_where_the_search_was_fitted(world: World) -> None:
    rows = [world.table.read(m.column, splits().search.image_ids) for m in world.findings.members]
    errors = [metrics.top_k_error_count(part, splits().search.labels, 1) for part in rows]
    assert errors[best_member(world.findings.outranking, world.findings.outcome.settings)] == min(
        errors
    )


def test_every_score_is_that_of_brute_force(world: World) -> None:
    report, parts = world.report(), splits()
    for member, shown in zip(world.findings.members, report.members, strict=True):
        for part, score in ((parts.search, shown.search), (parts.test, shown.test)):
            rows = np.exp(world.table.read(member.column, part.image_ids).astype(np.float64))
            assert score.n == len(part)
            assert score.top1_errors == (rows.argmax(axis=1) != part.labels).sum()
            assert score.topk_errors == metrics.top_k_error_count(rows, part.labels, 2)
            assert score.nll == pytest.approx(metrics.nll(rows, part.labels), abs=1e-6)


def test_calibration_is_that_of_the_findings(world: World) -> None:
    assert world.report().calibration is None
    temperature = Temperature(0.5, 0.4, 0.3, True, 60)
    before, after = world.findings.test["ensemble"], world.findings.test["uniform_all"]
    found = CalibrationOnTest(temperature, before, after)
    assert world.report(calibration=found).calibration == document.Calibration(
        temperature=0.5,
        is_kept=True,
        search_images=60,
        search_nll_before=0.4,
        search_nll_after=0.3,
        test_nll_before=before.nll,
        test_nll_after=after.nll,
    )


def test_members_have_their_weights_and_what_they_are(world: World) -> None:
    members = world.report().members
    assert [(m.name, m.weight, m.selected) for m in members] == [
        ("x", 1.0, True),
        ("y", 0.5, True),
        ("z", 0.0, False),
    ]
    assert {(m.architecture, m.views, m.num_views, m.seed) for m in members} == {
        ("alexnet_small", "centre", 1, 1)
    }


def test_each_result_is_compared_with_the_best_member_on_the_same_images(world: World) -> None:
    results = {result.key: result for result in world.report().results}
    best = world.findings.test[world.findings.best.name].is_wrong
    outcomes = {
        key: world.findings.test[key] for key in ("uniform_all", "uniform_selected", "ensemble")
    }
    assert world.findings.routed is not None
    outcomes["ensemble_subclassifiers"] = world.findings.routed.chosen.outcome
    assert list(results) == ["best", *outcomes]
    assert results["best"].against_best is None
    for key, outcome in outcomes.items():
        difference = results[key].against_best
        assert difference is not None
        assert difference.fixed == (best & ~outcome.is_wrong).sum()
        assert difference.broken == (~best & outcome.is_wrong).sum()
        assert difference.difference == pytest.approx(outcome.is_wrong.mean() - best.mean())
        assert difference.low <= difference.difference <= difference.high
        assert difference.resamples == 200
    assert [results[key].members for key in ("uniform_all", "ensemble")] == [3, 2]


def test_routing_is_chosen_where_its_gate_opens_and_the_ensemble_where_not(world: World) -> None:
    assert world.report().chosen.key == "ensemble_subclassifiers"
    assert world.findings.subclassifiers is not None
    routing = world.findings.subclassifiers.tried[0].trials[0].routing
    shut = with_trial(world.findings, routing=replace(routing, threshold=np.inf))
    report = world.report(subclassifiers=shut)
    assert report.chosen.key == "ensemble"
    assert report.subclassifiers is not None
    assert report.subclassifiers.threshold is None


def test_run_without_sub_classifiers_reports_none(world: World) -> None:
    report = world.report(subclassifiers=None, routed=None)
    assert report.subclassifiers is None
    assert [result.key for result in report.results][-1] == "ensemble"
    assert report.chosen.key == "ensemble"


def test_sub_classifiers_are_judged_on_the_images_of_their_clusters(world: World) -> None:
    shown = world.report().subclassifiers
    assert shown is not None
    parts, base = splits(), world.findings.members[0]
    assert [cluster.classes for cluster in shown.clusters] == list(CLUSTERS)
    assert world.findings.subclassifiers is not None
    assert world.findings.routed is not None
    subs = world.findings.subclassifiers.tried[0].subclassifiers
    for cluster, sub in zip(shown.clusters, subs.values(), strict=True):
        inside = np.isin(parts.test.labels, cluster.classes)
        labels, ids = parts.test.labels[inside], parts.test.image_ids[inside]
        classes = np.array(cluster.classes)
        ours = classes[world.table.read(base.column, ids)[:, classes].argmax(axis=1)]
        theirs = classes[world.table.read(sub.column, ids).argmax(axis=1)]
        assert cluster.test_images == inside.sum()
        assert cluster.train_images == np.isin(parts.train.labels, classes).sum()
        assert cluster.restricted_top1_accuracy == pytest.approx((ours == labels).mean())
        among_all = world.table.read(base.column, ids).argmax(axis=1)
        assert cluster.base_top1_accuracy == pytest.approx((among_all == labels).mean())
        assert (cluster.epochs, cluster.best_epoch) == (5, 2)
        assert cluster.sub_top1_accuracy == pytest.approx((theirs == labels).mean())
        assert cluster.sub_topk_accuracy == 1
    routed = {result.key: result.routed for result in shown.results}
    assert routed["chosen"] == world.findings.routed.chosen.is_routed.sum()
    errors = {result.key: result.errors for result in shown.results}
    assert errors["first"] == world.findings.test["ensemble"].errors(1)
    assert errors["paper"] == world.findings.routed.paper.outcome.errors(1)
    assert np.array(shown.similarity).shape == (4, 4)


def test_routing_is_compared_with_the_base_trained_on_where_there_is_one(world: World) -> None:
    control = world.findings.test["z"]
    assert world.findings.routed is not None
    shown = world.report(routed=replace(world.findings.routed, control=control)).subclassifiers
    assert shown is not None
    rows = {row.key: row for row in shown.results}
    assert list(rows) == ["first", "control", "paper", "chosen"]
    assert rows["control"].errors == control.errors(1)
    assert (rows["first"].against_control, rows["control"].against_control) == (None, None)
    against, routed = rows["chosen"].against_control, world.findings.routed.chosen.outcome
    assert against is not None
    assert against.fixed == (control.is_wrong & ~routed.is_wrong).sum()
    plain = world.report().subclassifiers
    assert plain is not None
    assert all(row.against_control is None for row in plain.results)


def test_images_trained_stopped_chosen_and_tested_on_are_disjoint_and_hashed(
    world: World,
) -> None:
    shown, found = world.report().subclassifiers, world.findings.subclassifiers
    assert shown is not None
    assert found is not None
    parts = (splits().train, found.stopping, found.choosing, splits().test)
    assert [part.sha256 for part in shown.parts] == [part.sha256 for part in parts]
    ids = [image_id for part in parts for image_id in part.image_ids.tolist()]
    assert len(set(ids)) == len(ids)


def test_examples_are_images_that_routing_turns(world: World) -> None:
    shown = world.report().subclassifiers
    assert shown is not None
    for example in shown.examples:
        assert (example.answer == example.label) == (example.kind == "fixed")
        assert (example.first_answer == example.label) == (example.kind == "broken")
        assert [bar.label for bar in example.sub] == list(CLUSTERS[example.cluster])
        assert [bar.label for bar in example.first] == [0, 1, 2, 3]


def test_curve_is_thinned_and_keeps_its_ends_and_the_best_point(world: World) -> None:
    thresholds = np.append(np.linspace(0.1, 1.3, 999), np.inf)
    errors = np.full(1000, 9)
    errors[537] = 3
    assert world.findings.subclassifiers is not None
    long = replace(
        world.findings.subclassifiers.tried[0].trials[0].curve,
        thresholds=thresholds,
        errors=errors,
        routed=np.arange(1000)[::-1],
    )
    shown = world.report(subclassifiers=with_trial(world.findings, curve=long)).subclassifiers
    assert shown is not None
    found = [(point.threshold, point.search_errors) for point in shown.curve]
    assert len(found) <= MAX_CURVE_POINTS + 2
    assert found[0] == (thresholds[0], 9)
    assert found[-1] == (None, 9)
    assert (thresholds[537], 3) in found


def test_data_names_splits_classes_and_what_was_left_out(world: World) -> None:
    data = world.report().data
    assert data.classes == CLASSES
    assert [(part.name, part.images) for part in data.splits] == [
        ("train", 20),
        ("search", 60),
        ("test", 120),
    ]
    assert data.num_images == 200
    assert [(bad.image_id, bad.reason) for bad in data.bad_images] == [("image-999", "torn")]


def test_examples_are_images_whose_answer_changed(world: World) -> None:
    report, parts = world.report(), splits()
    label_by_id = dict(zip(parts.test.image_ids.tolist(), parts.test.labels.tolist(), strict=True))
    assert 0 < len(report.examples) <= 6
    assert {example.kind for example in report.examples} == {"fixed", "broken"}
    assert len({example.image_id for example in report.examples}) == len(report.examples)
    for example in report.examples:
        label = label_by_id[example.image_id]
        assert example.label == label
        assert (example.before.answer == label) == (example.kind == "broken")
        assert (example.after.answer == label) == (example.kind == "fixed")
        for said in (example.before, example.after):
            assert sum(said.probabilities) == pytest.approx(1, abs=1e-4)


def test_example_shows_a_small_picture_of_its_image(world: World) -> None:
    example = world.report().examples[0]
    image = Image.open(io.BytesIO(base64.b64decode(example.png_base64)))
    assert image.size == (48, 96)
    assert image.convert("RGB").getpixel((0, 0)) == tuple(decode(example.image_id)[0, 0].tolist())


def test_nothing_changed_gives_no_example(world: World) -> None:
    same = {name: world.findings.test["ensemble"] for name in world.findings.test}
    report = world.report(test=same, subclassifiers=None, routed=None)
    assert report.examples == ()


def test_report_survives_json(world: World) -> None:
    report = world.report()
    assert document.Report.model_validate_json(report.model_dump_json()) == report
    assert isinstance(world.findings.test["ensemble"], Outcome)


def test_the_search_says_why_and_how_sure_it_is(world: World) -> None:
    search = world.report().search
    assert [line.name for line in search.members] == ["x", "y", "z"]
    assert [line.weight for line in search.members] == WEIGHTS.tolist()
    assert all(line.cost is None and line.reason for line in search.members)
    assert search.stability is not None
    assert search.stability.resamples == 200
    assert search == world.report().search


def test_a_search_under_a_cost_bound_shows_costs_and_error_against_cost(world: World) -> None:
    costs = {"x": 3.0, "y": 2.0, "z": 1.0}
    settings = SearchConfig(kind="paper", max_cost=5.0, costs=costs)
    found = outcome_of(world.findings.outranking, settings, world.findings.ensemble)
    outcomes = {frontier_key(i): world.findings.test["x"] for i in range(len(found.frontier))}
    report = world.report(
        outcome=found,
        cost_unit="as given",
        test=world.findings.test | outcomes,
    )
    assert [line.cost for line in report.search.members] == [3, 2, 1]
    assert report.search.max_cost == 5
    assert sum(line.is_cheapest_tied for line in report.search.frontier) == 1
    assert all(line.cost <= 5 for line in report.search.frontier)
    errors = world.findings.test["x"].errors(1)
    assert {line.errors for line in report.search.frontier} == {errors}
    html = render(report)
    assert "Error against cost" in html
    assert "cheapest tied" in html


def test_a_table_too_large_to_resample_has_no_stability(world: World) -> None:
    search = world.report(outcome=world.outcome(stability=None)).search
    assert search.stability is None
    assert {line.frequency for line in search.members} == {None}


def test_the_paper_has_a_row_and_every_row_is_compared_with_uniform(world: World) -> None:
    ensemble = Ensemble(("x", "y", "z"), np.array([1.0, 0.0, 0.0]), "paper", 1, 12, 60)
    *others, last = world.findings.outcome.predictors
    compared = (*others, Predictor("paper", "the paper's search", ensemble), last)
    test = {**world.findings.test, "paper": world.findings.test["x"]}
    report = world.report(outcome=world.outcome(predictors=compared), test=test)
    rows = {row.key: row for row in report.results}
    assert rows["paper"].members == 1
    assert [key for key, row in rows.items() if row.against_uniform is None] == ["uniform_all"]
    uniform = rows["uniform_all"].score.top1_errors
    for row in rows.values():
        if row.against_uniform is not None:
            change = row.against_uniform.broken - row.against_uniform.fixed
            assert change == row.score.top1_errors - uniform


def test_a_run_of_a_larger_k_is_judged_at_that_k_with_top_1_beside_it(world: World) -> None:
    at_3 = world.outcome(ensemble=replace(world.findings.ensemble, k=3))
    report = world.report(outcome=at_3, subclassifiers=None)
    assert (report.k, report.top_k, report.other_k) == (3, 3, 1)
    best = world.findings.test[world.findings.best.name]
    for result in report.results:
        outcome = best if result.key == "best" else world.findings.test[result.key]
        assert report.errors(result.score) == outcome.errors(3)
        assert report.other_error(result.score) == outcome.errors(1) / 120
        if result.against_best is not None:
            assert result.against_best.fixed == (best.is_error(3) & ~outcome.is_error(3)).sum()
            assert result.against_best.broken == (outcome.is_error(3) & ~best.is_error(3)).sum()
    ids = splits().test.image_ids.tolist()
    for example in report.examples:
        row = ids.index(example.image_id)
        assert example.kind == (
            "broken" if world.findings.test["ensemble"].is_error(3)[row] else "fixed"
        )
    html = render(report)
    assert html.index("top-3 error") < html.index("top-1 error")
    assert "(top-3).</h1>" in html


def test_the_recommended_row_has_the_star_and_the_artifact_keeps_the_search_that_was_asked_for(
    world: World,
) -> None:
    best = Recommendation("best", (), "It is made up.")
    as_asked = world.outcome(recommendation=best, settings=SearchConfig(kind="paper"))
    asked = world.report(outcome=as_asked, subclassifiers=None)
    assert (asked.chosen.key, asked.answering.key) == ("best", "ensemble")
    assert "search.kind=paper asks for it" in render(asked)
    open_search = world.report(outcome=world.outcome(recommendation=best), subclassifiers=None)
    assert (open_search.chosen.key, open_search.answering.key) == ("best", "best")
    assert open_search.examples == ()


def test_costs_are_added_up_over_every_network_that_answers(world: World) -> None:
    members, found = world.findings.members, world.findings.subclassifiers
    assert found is not None
    subs = list(found.tried[0].subclassifiers.values())
    costs = {
        member.column: {"flops": 10.0**i, "depth": float(i + 1), "seconds": 0.5}
        for i, member in enumerate((*members, *subs))
    }
    report = world.report(costs=costs)
    by_key = {cost.key: cost for cost in report.costs}
    assert list(by_key) == ["best", "ensemble", "uniform_all", "ensemble_subclassifiers"]
    assert by_key["uniform_all"].flops == 111
    assert by_key["ensemble"].flops == 11
    assert by_key["ensemble_subclassifiers"].flops == 11 + 1000 + 10000
    assert report.execution.seconds_per_image["ensemble_subclassifiers"] == 2
    assert report.members[2].depth == 3
    html = render(report)
    assert "What an image costs" in html
    without = world.report(costs={})
    assert {(cost.flops, cost.depth) for cost in without.costs} == {(None, None)}
    assert "not known" in render(without)


def test_routing_that_a_cost_bound_leaves_no_room_for_is_not_used(world: World) -> None:
    assert world.report().chosen.key == "ensemble_subclassifiers"
    over = with_trial(world.findings, is_affordable=False)
    report = world.report(subclassifiers=over, notes=("Routings are not used: too dear.",))
    assert (report.chosen.key, report.answering.key) == ("ensemble", "ensemble")
    assert report.search.warnings[0] == "Routings are not used: too dear."


def test_errors_by_class_are_those_of_the_recommended_and_the_best(world: World) -> None:
    report = world.report()
    errors = report.errors_by_class
    assert errors is not None
    assert sum(row.images for row in errors.classes) == len(splits().test)
    assert sum(row.errors for row in errors.classes) == report.errors(report.chosen.score)
    assert sum(row.best_errors for row in errors.classes) == report.errors(report.best.score)
    plain = world.report(subclassifiers=None, routed=None).errors_by_class
    assert plain is not None
    assert plain.predictor == "weighted ensemble"


def test_one_network_under_two_policies_of_views_is_compared_with_the_cheaper(
    world: World,
) -> None:
    x, y, z = world.findings.members
    assert world.report().networks_by_views == ()
    many = replace(y, views=MultiCrop(grid=2), weights_sha256=x.weights_sha256)
    z = replace(z, weights_sha256=x.weights_sha256)
    findings = replace(world.findings, members=(many, x, z))
    (network,) = networks_by_views(findings, 2, 200)
    assert [row.member for row in network.policies] == ["x", "z", "y"]
    assert [row.num_views for row in network.policies] == [1, 1, 24]
    first, *others = network.policies
    assert first.against_first is None
    for row in others:
        wrong, cheaper = (world.findings.test[name].is_wrong for name in (row.member, "x"))
        assert row.against_first is not None
        assert row.errors == wrong.sum()
        assert row.against_first.broken == (wrong & ~cheaper).sum()


def test_the_member_with_the_most_views_shows_what_it_sees_of_an_image(world: World) -> None:
    x, y, z = world.findings.members
    assert world.report().seen_image is None
    members = (x, replace(y, views=MultiCrop(grid=3)), z)
    seen = seen_image(replace(world.findings, members=members), decode)
    assert seen is not None
    assert (seen.member, seen.image_id) == ("y", str(splits().test.image_ids[0]))
    assert (seen.width, seen.height) == (100, 200)
    assert [(scale.views, scale.mirrored) for scale in seen.scales] == [(18, 9)] * 3
    # A crop and its mirror image may lie a pixel apart.
    assert all(9 <= len(scale.regions) <= 12 for scale in seen.scales)
