import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser

import pytest

from ensemble.report.documents.provenance import MixedColumn
from ensemble.report.documents.run import Report
from ensemble.report.documents.weights import MemberLine
from ensemble.report.pages.run import example_rows, render

MakeReport = Callable[..., Report]

VOID = {"meta", "img", "link", "br", "input", "hr"}
DIAGNOSTICS = ["agreement", "classes", "calibration"]
SECTIONS = [
    *("results", "members", *DIAGNOSTICS),
    *("search", "subclassifiers", "examples", "provenance"),
]
HOSTILE = "<script>alert(1)</script>"


class Page(HTMLParser):
    """What a test asks of a page: its tags, its text, and the value behind each number."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.numbers: list[tuple[float, str]] = []
        self.rows: dict[str, list[float]] = {}
        self.row: str | None = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.row = attributes.get("data-key") or attributes.get("data-name")
        if tag == "data":
            self.numbers.append((float(attributes["value"] or "nan"), ""))
            if self.row:
                self.rows.setdefault(self.row, []).append(self.numbers[-1][0])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        if tag == "tr":
            self.row = None

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] == "data":
            self.numbers[-1] = (self.numbers[-1][0], data)

    def ids(self, tag: str) -> list[str | None]:
        return [attributes.get("id") for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers_in(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def reads_as(text: str, value: float) -> bool:
    """Tell whether a rounded figure is the value, a percentage of it, or it in thousands."""
    stated = re.search(r"−?[+]?[\d,]+(\.\d+)?", text)
    assert stated, text
    decimals = len((stated[1] or ".")[1:])
    number = float(stated[0].replace("−", "-").replace(",", ""))
    near = 0.5 * 10**-decimals + 1e-9
    return any(abs(number - value * factor) <= near for factor in (1, 100, 1e-3, 1e-6))


@pytest.fixture
def page(report: Report) -> Page:
    return Page(render(report))


def test_every_number_stands_in_the_json_and_reads_as_it(report: Report, page: Page) -> None:
    known = set(numbers_in(json.loads(report.model_dump_json())))
    assert len(page.numbers) > 200
    for value, text in page.numbers:
        assert value in known, text
        if "<" not in text and "min" not in text:
            assert reads_as(text, value), (text, value)


def test_each_row_of_the_results_is_its_result(report: Report, page: Page) -> None:
    for result in report.results:
        d, score = result.against_best, result.score
        expected = [result.members, score.top1_error, score.topk_error, score.nll]
        if d:
            expected += [d.difference, d.low, d.high, d.fixed, d.broken, d.mcnemar_p]
        assert page.rows[result.key] == expected


def test_the_temperature_and_what_it_does_stand_below_the_results(report: Report) -> None:
    assert report.calibration is not None
    words = Page(render(report)).words
    assert "at a temperature of 0.812," in words
    assert "0.2304 without and 0.2191 nats with it. It was fitted on 360 search images" in words
    tried = report.calibration.model_copy(update={"is_kept": False, "temperature": 1.0})
    words = Page(render(report.model_copy(update={"calibration": tried}))).words
    assert "was tried, and does not lower the NLL of held-out search images" in words
    without = {"calibration": None, "reliability": None}
    assert "temperature" not in Page(render(report.model_copy(update=without))).words


def test_each_row_of_the_members_is_its_member(report: Report, page: Page) -> None:
    for member in report.members:
        weight = [member.weight] if member.selected else []
        test = [member.test.top1_error, member.test.topk_error, member.test.nll]
        views = [member.num_views] if member.name == "vgg11" else []
        figures = [member.search.top1_error, *test]
        assert page.rows[member.name] == [member.parameters, *views, *weight, *figures]


def test_the_sections_stand_in_order(page: Page) -> None:
    assert page.ids("section") == SECTIONS
    assert page.ids("header")[0] == "verdict"


def test_the_page_is_whole_and_loads_nothing(report: Report) -> None:
    html = render(report)
    page = Page(html)
    assert page.open == []
    assert "://" not in html
    assert "url(" not in html
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert (attributes.get("src") or "data:image/png").startswith("data:image/png")
        target = attributes.get("href") or "#results"
        assert target.startswith(("#", "data:image/png;base64,"))
        if target.startswith("#"):
            assert target[1:] in {attributes.get("id") for _, attributes in page.tags}


def test_the_page_says_its_language_and_fits_a_phone(page: Page) -> None:
    assert ("html", {"lang": "en"}) in page.tags
    assert [a["content"] for t, a in page.tags if t == "meta" and a.get("name") == "viewport"] == [
        "width=device-width, initial-scale=1"
    ]
    assert [tag for tag, _ in page.tags].count("h1") == 1


def test_hostile_names_are_text(make_report: MakeReport) -> None:
    report = make_report(classes=(HOSTILE, '" onload="alert(1)', *map(str, range(8))))
    dump = report.model_dump()
    dump["examples"][0]["image_id"] = dump["data"]["source"] = dump["name"] = HOSTILE
    dump["data"]["bad_images"][0]["reason"] = dump["members"][1]["architecture"] = HOSTILE
    dump["identity"]["versions"] = {HOSTILE: HOSTILE}
    dump["execution"]["images"] = dump["seen_image"]["image_id"] = HOSTILE
    dump["seen_image"]["scales"][0]["title"] = dump["seen_image"]["views"] = HOSTILE
    dump["networks_by_views"][0]["architecture"] = HOSTILE
    dump["networks_by_views"][0]["policies"][0]["member"] = HOSTILE
    dump["reliability"]["predictor"] = dump["errors_by_class"]["predictor"] = HOSTILE
    dump["fallbacks"][0]["missing"], dump["fallbacks"][0]["weights"] = HOSTILE, {HOSTILE: 1.0}
    html = render(Report.model_validate(dump))
    page = Page(html)
    assert "<script" not in html
    assert HOSTILE in page.words
    assert not any("onload" in attributes for _, attributes in page.tags)


@pytest.mark.parametrize(
    ("top1", "tag", "sentence"),
    [
        ((25, 27, 19, 17, 16), "Better", "−0.9 points, 95 % interval −1.6 to −0.2."),
        ((25, 27, 25, 23, 22), "No significant", "The interval contains 0"),
        ((25, 60, 51, 49, 48), "Worse", "The interval lies above 0"),
    ],
)
def test_the_verdict_is_honest(
    make_report: MakeReport, top1: tuple[int, ...], tag: str, sentence: str
) -> None:
    words = Page(render(make_report(top1=top1))).words
    assert words.index(tag) < words.index("The weighted ensemble of 5 of 13 members errs on")
    assert sentence in words
    assert "A single run" in words


def test_a_page_without_subclassifiers_says_so(make_report: MakeReport) -> None:
    page = Page(render(make_report(has_subclassifiers=False)))
    assert page.ids("section") == SECTIONS
    assert "This run trained no sub-classifiers." in page.words


def test_a_gate_that_never_opens_is_said(report: Report) -> None:
    assert report.subclassifiers is not None
    shut = report.subclassifiers.model_copy(update={"chosen": 0})
    words = Page(render(report.model_copy(update={"subclassifiers": shut}))).words
    assert "the gate stays shut" in words


def test_a_label_cluster_without_a_sub_classifier_says_why(report: Report) -> None:
    words = Page(render(report)).words
    assert "No sub-classifier; the base answers. the host died three times." in words


def test_a_page_without_examples_says_none(make_report: MakeReport) -> None:
    words = Page(render(make_report(num_examples=0))).words
    assert "has 13 right that the best single member has wrong, and 5 wrong" in words
    assert "None was kept for this page." in words


def test_a_kind_without_examples_says_none(make_report: MakeReport) -> None:
    words = Page(render(make_report(num_examples=1))).words
    assert "right before, wrong after; 0 shown None." in words


@pytest.mark.parametrize(("num_classes", "num_labels"), [(100, 100), (150, 0)])
def test_a_large_map_has_labels_while_they_are_legible_and_no_values(
    make_report: MakeReport, num_classes: int, num_labels: int
) -> None:
    html = render(make_report(classes=tuple(f"class {i}" for i in range(num_classes))))
    body = html.split('<section id="subclassifiers"')[1]
    assert body.count('text-anchor="end" font-size') == num_labels
    assert "map-value" not in body
    assert len(html) < 4_000 * num_classes


def test_a_search_without_steps_is_said(report: Report) -> None:
    search = report.search.model_copy(update={"steps": (), "kind": "uniform"})
    words = Page(render(report.model_copy(update={"search": search}))).words
    assert "All members weigh the same; nothing was fitted." in words
    assert "This search took no steps." in words


def test_an_example_shows_its_label_and_both_answers(report: Report) -> None:
    for example in report.examples:
        shown = {row.name for row in example_rows(example, report.data.classes)}
        named = (example.label, example.before.answer, example.after.answer)
        assert {report.data.classes[k] for k in named} <= shown


def test_the_same_report_gives_the_same_page(report: Report) -> None:
    assert render(report) == render(report)


def test_member_whose_rows_kinds_of_device_share_is_named(report: Report) -> None:
    mixed = MixedColumn(member="resnet", rows_by_device_kind={"NVIDIA L4": 1200, "cpu": 64})
    execution = report.execution.model_copy(update={"mixed_columns": (mixed,)})
    changed = Page(render(report.model_copy(update={"execution": execution})))
    sentence = "resnet has rows of cpu (64), NVIDIA L4 (1,200), which round differently"
    assert sentence in "".join(changed.text)
    assert "which round differently" not in "".join(Page(render(report)).text)


def test_the_contents_name_the_sections_that_are_there(report: Report, page: Page) -> None:
    targets = [a["href"] for tag, a in page.tags if tag == "a"]
    assert targets == [f"#{section}" for section in SECTIONS]
    earlier = report.model_copy(
        update=dict.fromkeys(("agreement", "errors_by_class", "reliability", "seen_image"))
    )
    page = Page(render(earlier.model_copy(update={"networks_by_views": (), "fallbacks": ()})))
    expected = [section for section in SECTIONS if section not in DIAGNOSTICS]
    assert page.ids("section") == expected
    assert [a["href"] for tag, a in page.tags if tag == "a"] == [f"#{s}" for s in expected]


def test_the_images_are_named_by_kind_and_place_and_their_hash_stands_below(report: Report) -> None:
    source = "folder-2 " + "ab" * 32
    data = report.data.model_copy(update={"source": source})
    html = render(report.model_copy(update={"data": data}))
    assert html.count("ab" * 32) == html.count(f"<code>{source}</code>") == 1
    assert "folder /data/digits" in Page(html).words
    execution = report.execution.model_copy(update={"images": ""})
    earlier = Page(render(report.model_copy(update={"data": data, "execution": execution}))).words
    assert "folder-2 abababababab…" in earlier


def test_a_dot_stays_inside_its_drawing_at_a_weight_above_1(report: Report) -> None:
    step = report.search.steps[1].model_copy(update={"weight": 3.2, "selected": True})
    search = report.search.model_copy(update={"steps": (report.search.steps[0], step)})
    page = Page(render(report.model_copy(update={"search": search})))
    places = [a["cx"] for tag, a in page.tags if tag == "circle"]
    assert all(0 <= float((place or "").rstrip("%")) <= 100 for place in places)


def test_weights_of_logarithms_are_told_as_exponents_and_no_shares(report: Report) -> None:
    line = MemberLine.model_validate(
        dict.fromkeys(MemberLine.model_fields)
        | {"name": "a", "family": "vgg", "weight": 0.5, "errors": 3, "reason": "It is made up."}
    )
    heavy = line.model_copy(update={"name": "b", "weight": 1.5})
    update = {"members": (line, heavy), "combine": "logs", "scale": 1.2}
    search = report.search.model_copy(update=update)
    fallbacks = (report.fallbacks[0].model_copy(update={"scale": 0.75}),)
    page = Page(render(report.model_copy(update={"search": search, "fallbacks": fallbacks})))
    assert "they are exponents, not shares" in page.words
    assert "exponent 0.30" in page.words
    assert "exponent 0.90" in page.words
    assert (0.75, "0.75") in page.numbers
    plain = Page(render(report)).words
    assert "exponent" not in plain


def test_a_class_that_is_named_like_a_tag_is_text_in_every_part(make_report: MakeReport) -> None:
    html = render(make_report(classes=(HOSTILE, *map(str, range(9)))))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 4


def test_every_region_of_the_seen_image_is_drawn(report: Report, page: Page) -> None:
    assert report.seen_image is not None
    drawn = [a for tag, a in page.tags if tag == "rect" and a.get("class") == "region"]
    assert len(drawn) == sum(len(scale.regions) for scale in report.seen_image.scales)
    assert {float(a["width"] or 0) for a in drawn} == {0.6 * report.seen_image.width}
