"""Advice: three plain lines on what to make of the results, the same on the page and on the terminal."""

from collections.abc import Sequence

from ensemble.report.documents.diagnostics import SetsOnTest
from ensemble.report.documents.run import Report
from ensemble.report.documents.search import SearchReport
from ensemble.report.documents.weights import Difference


def run_advice(report: Report) -> tuple[str, ...]:
    """Say which result of a run is recommended and why, what the test split says of it, and what to do next.

    Returns:
        Three sentences; none for a report of an earlier version, which has no recommendation.
    """
    if report.recommendation is None:
        return ()
    chosen, labels = report.chosen, {result.key: result.label for result in report.results}
    routed = ""
    if chosen.key == "ensemble_subclassifiers":
        routed = " Sub-classifiers err on fewer of the images that their gate was not fitted on. Without them:"
    return (
        f"Recommended: {chosen.label}.{routed} {report.recommendation.reason}",
        _on_test(
            f"On {chosen.score.n:,} test images it has a top-{report.k} error of "
            f"{report.error(chosen.score):.2%}",
            chosen.against_best,
            chosen.against_uniform,
            labels["uniform_all"],
        ),
        _next_of_run(report),
    )


def sets_line(sets: SetsOnTest) -> str:
    """Say what conformal sets hold on the test images, beside those of a naive threshold."""
    return (
        f"Sets of classes that hold the label with a probability of {sets.promised:.0%} (coverage=): "
        f"{sets.coverage:.1%} of {sets.images:,} test images, {sets.mean_size:.2f} classes on average; adding up "
        f"probabilities to {sets.promised:.0%} holds {sets.naive_coverage:.1%} with {sets.naive_mean_size:.2f}."
    )


def search_advice(report: SearchReport) -> tuple[str, ...]:
    """Say the same of a search on a finished run.

    Returns:
        Three sentences; none for a report of an earlier version, which has no recommendation.
    """
    if report.recommendation is None:
        return ()
    rows = {row.key: row for row in report.results}
    chosen = next(row for row in report.results if row.key == report.recommendation.key)
    return (
        f"Recommended: {chosen.label}. {report.recommendation.reason}",
        _on_test(
            f"On {chosen.n:,} images that it was not fitted on it has a top-{report.k} error of "
            f"{chosen.error:.2%}",
            chosen.against_best,
            chosen.against_uniform,
            rows["uniform_all"].label,
        ),
        _next_of_search(report, chosen.key),
    )


def _next_of_search(report: SearchReport, key: str) -> str:
    if not report.is_imported:
        return (
            "Next: give the run's config these settings of the search, with search.kind=auto, and another "
            "name: `ensemble run` then computes no prediction anew and writes an artifact that answers with "
            "what is recommended."
        )

    def averaged(combine: object) -> str:
        return "logarithms of the probabilities" if combine == "logs" else "probabilities"

    what, plain = averaged(report.combine), averaged(report.settings["search"].get("combine"))
    weigh = f"average the {what} with the weights of `members` in search-report.json"
    if report.scale != 1:
        weigh += f", and multiply the mean by its `scale`, {report.scale:.4g}, before the softmax"
    selected = ", ".join(member.name for member in report.members if member.weight)
    how = {
        "best": "use this member alone",
        "uniform_all": f"average the {plain} of all members, each with the same weight",
        "uniform_selected": f"average the {plain} of {selected}, each with the same weight",
    }
    return (
        f"Next: {how.get(key, weigh)}"
        ". The predictions were computed elsewhere, so there is no artifact."
    )


def _on_test(
    start: str,
    against_best: Difference | None,
    against_uniform: Difference | None,
    uniform: str,
) -> str:
    parts = []
    if against_best is not None:
        parts.append(_words(against_best, "the best member"))
    if against_uniform is not None:
        parts.append(_words(against_uniform, uniform))
    return f"{start}{': ' if parts else ''}{'; '.join(parts)}."


def _words(d: Difference, reference: str) -> str:
    if not d.difference:
        return f"the same error as {reference}"
    points = 100 * abs(d.difference)
    direction = "less" if d.difference < 0 else "more"
    significance = "not significant" if d.verdict == "undecided" else "significant"
    return (
        f"{points:.2f} points {direction} ({d.level:.0%} interval {100 * d.low:+.2f} to {100 * d.high:+.2f}, "
        f"p = {d.mcnemar_p:.2g}: {significance}) than {reference}"
    )


def _next_of_run(report: Report) -> str:
    chosen, answering = report.chosen, report.answering
    artifact = f"runs/{report.name}/ensemble"
    if answering.key != chosen.key:
        return (
            f"Next: the artifact answers with {answering.label}, because search.kind={report.search.kind} "
            "asks for it. Leave search.kind out (auto) and run again under another name, to have an artifact "
            "that answers with what is then recommended; nothing is computed anew."
        )
    lines = report.recommendation.held_out if report.recommendation else ()
    beyond = {line.key for line in lines if not line.is_allowed}
    pairs = (("best", chosen.against_best), ("uniform_all", chosen.against_uniform))
    differences = [d for key, d in pairs if d is not None and key not in beyond]
    use = f'ensemble.predictor.load("{artifact}") answers with it'
    if any(d.verdict == "worse" for d in differences):
        return (
            f"Next: the test images contradict the search images. {use}; before you rely on it, search on "
            "more images (images.split.search)."
        )
    if chosen.key == "best":
        return (
            f"Next: {use}. One network is enough here; members that err on other images, or more search "
            "images, may change that."
        )
    if not differences:
        return f"Next: {use}. The best member and the plain average of all are beyond the caps of the search."
    if all(d.verdict == "undecided" for d in differences):
        return (
            f"Next: {use}. More test images would show whether it is better than the best member, which "
            f"costs 1 network where this costs {_networks(report)}."
        )
    return (
        f"Next: {use}, at the cost of {_networks(report)} networks an image. `ensemble search "
        f"runs/{report.name} max_cost=...` finds the best at a lower cost."
    )


def _networks(report: Report) -> int:
    keys: Sequence[str] = (report.chosen.key, "ensemble")
    by_key = {cost.key: cost.networks for cost in report.costs}
    return next((by_key[key] for key in keys if key in by_key), report.chosen.members)
