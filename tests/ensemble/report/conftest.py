"""A report as a real run of 13 members would write it; every figure is drawn from one seed."""

import base64
import io
import random
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from PIL import Image

from ensemble.report.documents.diagnostics import (
    Agreement,
    ClassErrors,
    Confusion,
    ErrorsByClass,
    NetworkByViews,
    Region,
    Reliability,
    ReliabilityAtTemperature,
    ReliabilityBin,
    SeenImage,
    ViewPolicy,
    ViewsAtScale,
)
from ensemble.report.documents.provenance import (
    BadImage,
    Data,
    Execution,
    Identity,
    Retries,
    Split,
    Stage,
)
from ensemble.report.documents.run import Calibration, Example, Member, Report, Result, Score
from ensemble.report.documents.subclassifiers import (
    Bar,
    ClusteredLabels,
    ImagePart,
    LabelCluster,
    RoutedExample,
    RoutedResult,
    RoutingPoint,
    RoutingTrial,
    Subclassifiers,
)
from ensemble.report.documents.weights import Difference, Fallback, Search, SearchStep

MakeReport = Callable[..., Report]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
POOL = (
    ("resnet20", "ResNet-20", 272_474, "identity", 1),
    ("resnet32-a", "ResNet-32", 466_906, "9 shifts", 9),
    ("resnet32-b", "ResNet-32", 466_906, "9 shifts", 9),
    ("resnet44", "ResNet-44", 661_338, "identity", 1),
    ("wide-resnet", "Wide ResNet 10-2", 310_032, "9 shifts", 9),
    ("pyramidnet", "PyramidNet-32", 571_018, "9 shifts", 9),
    ("densenet", "DenseNet-22", 188_000, "identity", 1),
    ("vgg8", "VGG-8", 1_146_122, "identity", 1),
    ("vgg11", "VGG-11", 2_300_410, "dense and multi-crop", 12),
    ("googlenet", "GoogLeNet, small", 402_882, "identity", 1),
    ("inception-v3", "Inception v3, small", 520_444, "144 crops", 144),
    ("inception-resnet", "Inception-ResNet, small", 611_090, "144 crops", 144),
    ("alexnet", "AlexNet, small", 95_818, "10 crops", 10),
)
SEARCH_N, TEST_N = 360, 897


def png(rng: random.Random, size: int = 8) -> str:
    """A tiny image that cannot be anybody's."""
    image = Image.frombytes("L", (size, size), bytes(rng.randrange(256) for _ in range(size**2)))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def make_members(rng: random.Random) -> tuple[Member, ...]:
    weights = {0: 1.0, 3: 0.37, 5: 0.64, 8: 0.12, 11: 0.05}
    return tuple(
        Member(
            name=name,
            architecture=architecture,
            seed=None if architecture.startswith("VGG") else i,
            parameters=parameters,
            views=views,
            num_views=num_views,
            weight=weights.get(i, 0.0),
            selected=i in weights,
            search=score(rng, SEARCH_N, 0.026 + 0.006 * i),
            test=score(rng, TEST_N, 0.028 + 0.006 * i),
        )
        for i, (name, architecture, parameters, views, num_views) in enumerate(POOL)
    )


def score(rng: random.Random, n: int, rate: float) -> Score:
    errors = max(1, round(n * rate * rng.uniform(0.85, 1.15)))
    return Score.of(n, errors, errors // 6, nll=rate * rng.uniform(2.8, 3.6))


def make_search(rng: random.Random, members: tuple[Member, ...]) -> Search:
    errors, steps = members[0].search.top1_errors, []
    for i, member in enumerate(sorted(members, key=lambda m: m.search.top1_error)):
        at = round(100 * member.weight)
        before, errors = errors, errors - (1 if member.selected and i else 0)
        curve = [before + round(abs(w - at) / rng.uniform(12, 18)) for w in range(101)]
        curve[at] = errors
        steps.append(
            SearchStep(
                member=member.name,
                weight=member.weight,
                errors=errors,
                selected=member.selected,
                errors_by_weight=tuple(curve) if i else (),
            )
        )
    return Search(kind="paper", k=1, num_images=SEARCH_N, steps=tuple(steps), tied_images=0)


def make_results(top1: tuple[int, int, int, int, int] = (25, 27, 19, 17, 16)) -> tuple[Result, ...]:
    keys = ("best", "uniform_all", "uniform_selected", "ensemble", "ensemble_subclassifiers")
    labels = (
        "Best single member",
        "Plain average, all",
        "Plain average, selected",
        "Weighted ensemble",
        "Weighted ensemble and sub-classifiers",
    )
    half = (0.0, 0.009, 0.007, 0.0072, 0.0081)
    return tuple(
        Result(
            key=key,
            label=label,
            members=members,
            score=Score.of(TEST_N, errors, errors // 7, nll=0.003 * errors + 0.011),
            against_best=None if key == "best" else difference(errors - top1[0], spread),
            chosen=key == "ensemble",
        )
        for key, label, members, errors, spread in zip(
            keys, labels, (1, 13, 5, 5, 5), top1, half, strict=True
        )
    )


def difference(errors: int, spread: float) -> Difference:
    at = errors / TEST_N
    fixed = max(0, -errors) + 5
    return Difference(
        difference=at,
        low=at - spread,
        high=at + spread,
        level=0.95,
        resamples=2000,
        fixed=fixed,
        broken=fixed + errors,
        mcnemar_p=0.0215 if abs(at) > spread else 0.6072,
    )


def make_subclassifiers(rng: random.Random, num_classes: int) -> Subclassifiers:
    num_clusters = 3 if num_classes <= 10 else 9
    curve = tuple(
        RoutingPoint(
            threshold=round(t * 0.05, 2),
            search_errors=8 + round(abs(t - 12) / 4),
            routed=round(SEARCH_N / 2 * 0.82**t),
        )
        for t in range(41)
    )
    curve += (RoutingPoint(threshold=None, search_errors=11, routed=0),)
    return Subclassifiers(
        base="resnet20",
        routed_base="weighted ensemble",
        similarity_kind="base",
        clustering="spectral",
        tried=(
            make_clustered(2, num_classes, None),
            make_clustered(num_clusters, num_classes, 0.6),
        ),
        chosen=1,
        paper=0,
        base_errors=11,
        curve=curve,
        similarity=make_similarity(rng, num_classes, num_clusters),
        parts=(
            ImagePart(name="train", images=539, sha256="aa" * 32),
            ImagePart(name="stopping", images=SEARCH_N // 2, sha256="ab" * 32),
            ImagePart(name="choosing", images=SEARCH_N // 2, sha256="ac" * 32),
            ImagePart(name="test", images=TEST_N, sha256="cc" * 32),
        ),
        results=(
            RoutedResult(key="first", label="weighted ensemble", errors=17, routed=0),
            RoutedResult(
                key="paper",
                label="weighted ensemble + the paper's routing",
                errors=18,
                routed=120,
                against_first=difference(1, 0.004),
            ),
            RoutedResult(
                key="chosen",
                label="weighted ensemble + the chosen routing",
                errors=16,
                routed=71,
                against_first=difference(-1, 0.003),
            ),
        ),
        examples=tuple(make_turn(rng, kind, num_classes) for kind in ("fixed", "broken")),
    )


def make_clustered(num_clusters: int, num_classes: int, threshold: float | None) -> ClusteredLabels:
    clusters = tuple(
        LabelCluster(
            index=s,
            classes=tuple(range(s, num_classes, num_clusters)),
            train_images=90 * len(range(s, num_classes, num_clusters)),
            test_images=0 if s == 1 else 270 + s,
            base_top1_accuracy=None if s == 1 else 0.93,
            restricted_top1_accuracy=None if s == 1 else 0.952 - s / 100,
            sub_top1_accuracy=None if s == 1 else 0.971 - s / 60,
            restricted_topk_accuracy=None if s == 1 else 0.991,
            sub_topk_accuracy=None if s == 1 else 0.996,
            epochs=None if s == 1 else 11,
            best_epoch=None if s == 1 else 8,
            gain=0 if s == 1 else 3 - s,
            is_used=threshold is not None and s == 0,
            failure="the host died three times." if s == 1 else None,
        )
        for s in range(num_clusters)
    )
    trials = (
        RoutingTrial(gate="entropy", kind="hard", held_out_errors=12, routed=40),
        RoutingTrial(
            gate="entropy", kind="soft", threshold=threshold, held_out_errors=9, routed=33
        ),
    )
    return ClusteredLabels(
        num_clusters=num_clusters,
        clusters=clusters,
        stability=(1.0, 0.82, 0.9),
        trials=trials,
        best=1,
        paper=RoutingPoint(threshold=0.4, search_errors=10, routed=41),
    )


def make_turn(rng: random.Random, kind: str, num_classes: int) -> RoutedExample:
    values = [round(rng.uniform(-9, -0.3), 3) for _ in range(num_classes)]
    return RoutedExample(
        kind=kind,
        image_id=f"digits/{rng.randrange(1797):04d}",
        label=0,
        png_base64=png(rng),
        score=0.71,
        first_answer=1,
        answer=0 if kind == "fixed" else 2,
        cluster=0,
        first=tuple(Bar(label=i, value=v) for i, v in enumerate(values)),
        sub=(Bar(label=0, value=-0.1), Bar(label=3, value=-2.5)),
    )


def make_similarity(
    rng: random.Random, num_classes: int, num_clusters: int
) -> tuple[tuple[float, ...], ...]:
    rows = [[1.0] * num_classes for _ in range(num_classes)]
    for i in range(num_classes):
        for j in range(i):
            near = 0.35 if i % num_clusters == j % num_clusters else -0.02
            rows[i][j] = rows[j][i] = round(near + rng.gauss(0, 0.09), 4)
    return tuple(map(tuple, rows))


def make_example(rng: random.Random, kind: str, num_classes: int) -> Example:
    label, other = rng.sample(range(num_classes), 2)
    wrong, right = answer(rng, other, label, num_classes), answer(rng, label, other, num_classes)
    before, after = (wrong, right) if kind == "fixed" else (right, wrong)
    return Example.model_validate(
        {
            "image_id": f"digits/{rng.randrange(1797):04d}",
            "label": label,
            "png_base64": png(rng),
            "before": {"name": "resnet20", **before},
            "after": {"name": "weighted ensemble", **after},
            "kind": kind,
        }
    )


def answer(rng: random.Random, first: int, second: int, num_classes: int) -> dict[str, object]:
    rest = 0.06 / num_classes
    top = rng.uniform(0.48, 0.75)
    masses = [rest] * num_classes
    masses[first], masses[second] = top, 0.94 - top
    return {"answer": first, "probabilities": tuple(masses)}


def make_report(
    classes: tuple[str, ...] = DIGITS,
    num_examples: int = 7,
    has_subclassifiers: bool = True,
    top1: tuple[int, int, int, int, int] = (25, 27, 19, 17, 16),
) -> Report:
    rng = random.Random(0)
    members = make_members(rng)
    kinds = ["fixed" if i % 3 != 2 else "broken" for i in range(num_examples)]
    return Report(
        name="digits",
        identity=Identity(
            config_sha256="1f" * 32,
            data_sha256="2e" * 32,
            git_commit="3d" * 20,
            git_dirty=True,
            seed=0,
            versions={"torch": "2.8.0", "torchvision": "0.23.0", "numpy": "2.3.1"},
        ),
        data=Data(
            source="digits (8 x 8, grey)",
            classes=classes,
            num_images=1797,
            splits=(
                Split(name="train", images=539, sha256="aa" * 32),
                Split(name="search", images=SEARCH_N, sha256="bb" * 32),
                Split(name="test", images=TEST_N, sha256="cc" * 32),
            ),
            bad_images=(BadImage(image_id="digits/1796", reason="truncated after 31 of 64 bytes"),),
        ),
        top_k=3,
        members=members,
        search=make_search(rng, members),
        results=make_results(top1),
        calibration=Calibration(
            temperature=0.8125,
            is_kept=True,
            search_images=SEARCH_N,
            search_nll_before=0.2213,
            search_nll_after=0.2087,
            test_nll_before=0.2304,
            test_nll_after=0.2191,
        ),
        fallbacks=(
            Fallback(
                missing="resnet20",
                weights={"resnet44": 1.0, "pyramidnet": 0.5},
                search_errors=12,
                search_errors_unchanged=13,
            ),
        ),
        reliability=ReliabilityAtTemperature(
            predictor="weighted ensemble",
            before=make_reliability(1.0),
            after=make_reliability(0.8125),
        ),
        errors_by_class=make_errors_by_class(len(classes)),
        agreement=make_agreement(rng),
        networks_by_views=make_networks_by_views(),
        seen_image=make_seen_image(rng),
        subclassifiers=make_subclassifiers(rng, len(classes)) if has_subclassifiers else None,
        examples=tuple(make_example(rng, kind, len(classes)) for kind in kinds),
        execution=make_execution(),
    )


def make_errors_by_class(num_classes: int) -> ErrorsByClass:
    return ErrorsByClass(
        predictor="weighted ensemble",
        best="resnet20",
        classes=tuple(
            ClassErrors(label=i, images=90 + i, best_errors=i % 7, errors=i % 5)
            for i in range(num_classes)
        ),
        confusions=(Confusion(label=0, answer=3, images=4), Confusion(label=2, answer=1, images=2)),
    )


def make_reliability(temperature: float) -> Reliability:
    return Reliability(
        temperature=temperature,
        calibration_error=0.0213 * temperature,
        bins=(
            ReliabilityBin(low=0.4, high=0.4667, images=17, confidence=0.4418, accuracy=0.5294),
            ReliabilityBin(low=0.9333, high=1, images=880, confidence=0.9931, accuracy=0.9886),
        ),
    )


def make_agreement(rng: random.Random) -> Agreement:
    names = tuple(name for name, *_ in POOL)
    correlation = [[1.0] * len(names) for _ in names]
    disagreement = [[0.0] * len(names) for _ in names]
    for i in range(len(names)):
        for j in range(i):
            correlation[i][j] = correlation[j][i] = round(rng.uniform(-0.05, 0.7), 4)
            disagreement[i][j] = disagreement[j][i] = round(rng.uniform(0.01, 0.08), 4)
    return Agreement(
        images=TEST_N,
        members=names,
        correlation=tuple(map(tuple, correlation)),
        disagreement=tuple(map(tuple, disagreement)),
        effective_all=2.4375,
        effective_selected=1.9688,
        selected=5,
    )


def make_networks_by_views() -> tuple[NetworkByViews, ...]:
    rows = (("resnet32-a", "centre", 1, 1.0, 31), ("resnet32-b", "9 shifts", 9, 9.0, 28))
    return (
        NetworkByViews(
            architecture="ResNet-32",
            policies=tuple(
                ViewPolicy(
                    member=name,
                    views=views,
                    num_views=number,
                    relative_cost=cost,
                    images=TEST_N,
                    errors=errors,
                    other_errors=errors // 6,
                    nll=0.1171,
                    against_first=difference(errors - 31, 0.006) if errors != 31 else None,
                )
                for name, views, number, cost, errors in rows
            ),
        ),
    )


def make_seen_image(rng: random.Random) -> SeenImage:
    corners = ((0.0, 0.0), (0.4, 0.0), (0.0, 0.4), (0.4, 0.4), (0.2, 0.2))
    return SeenImage(
        member="alexnet",
        views="10 crops",
        image_id="digits/0007",
        width=8,
        height=8,
        png_base64=png(rng),
        scales=(
            ViewsAtScale(
                title="crops of 28 x 28 pixels, short side 32",
                views=10,
                mirrored=5,
                regions=tuple(Region(left=x, top=y, width=0.6, height=0.6) for x, y in corners),
            ),
        ),
    )


def make_execution() -> Execution:
    names = ("decode", "train", "predict", "search", "sub-classifiers", "evaluate", "report")
    seconds = (0.8, 61.3, 9.42, 0.15, 21.0, 0.66, 0.21)
    return Execution(
        started_at=datetime(2025, 3, 2, 4, 5, tzinfo=UTC),
        host="laptop, 2 cores",
        images="folder /data/digits",
        seconds_by_member={"resnet32-a": 0.0021, "resnet32-b": 0.0189},
        hosts=2,
        seconds_total=94.7,
        stages=tuple(Stage(name=n, seconds=s) for n, s in zip(names, seconds, strict=True)),
        shard_images=128,
        trained=13,
        from_cache=3,
        forward_passes=447_120,
        decoded_images=1796,
        images_per_s=47_464.2,
        retries=Retries(calls=1, requests=0),
        versions={"python": "3.12.3", "ray": "2.56.0", "platform": "Linux x86_64"},
    )


@pytest.fixture
def report() -> Report:
    return make_report()


@pytest.fixture(name="make_report")
def make_report_fixture() -> MakeReport:
    return make_report
