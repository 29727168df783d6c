"""From the members' test-time views to a report: a network's errors by policy, and what is seen of an image."""

from collections.abc import Callable, Sequence
from dataclasses import astuple

import numpy as np

from ensemble.members.member import Member
from ensemble.report.build.difference import difference
from ensemble.report.build.examples import png
from ensemble.report.build.findings import Findings
from ensemble.report.documents import diagnostics as document
from ensemble.views.policies import describe_views, list_views, relative_cost
from ensemble.views.regions import region_of
from ensemble.views.settings import Crop, Square, View


def networks_by_views(
    findings: Findings, other_k: int, resamples: int
) -> tuple[document.NetworkByViews, ...]:
    """Compare the policies of views of each network that is a member under several of them.

    Args:
        findings: What the stages of the run found.
        other_k: k of the errors that are shown beside those that the search counts.
        resamples: Number of bootstrap samples of each interval.
    """
    groups: dict[tuple[object, ...], list[Member]] = {}
    for member in findings.members:
        network = (member.weights_sha256, member.preprocessing, member.precision)
        groups.setdefault(network, []).append(member)
    return tuple(
        document.NetworkByViews(
            architecture=members[0].architecture,
            seed=members[0].seed,
            policies=_policies(findings, members, other_k, resamples),
        )
        for members in groups.values()
        if len({member.views for member in members}) > 1
    )


def _policies(
    findings: Findings, members: Sequence[Member], other_k: int, resamples: int
) -> tuple[document.ViewPolicy, ...]:
    k = findings.ensemble.k
    members = sorted(members, key=lambda m: relative_cost(m.views, m.preprocessing.size))
    first = findings.test[members[0].name]
    policies = []
    for member in members:
        size, outcome = member.preprocessing.size, findings.test[member.name]
        policies.append(
            document.ViewPolicy(
                member=member.name,
                views=describe_views(member.views, size),
                num_views=len(list_views(member.views, size)),
                relative_cost=relative_cost(member.views, size),
                images=len(outcome.ranks),
                errors=outcome.errors(k),
                other_errors=outcome.errors(other_k),
                nll=outcome.nll,
                against_first=None
                if outcome is first
                else difference(outcome, first, k, resamples),
            )
        )
    return tuple(policies)


def seen_image(
    findings: Findings, decode: Callable[[str], np.ndarray]
) -> document.SeenImage | None:
    """Tell what the member with the most views sees of the first test image; None where all have one view.

    Source: P1, Fig. 3.
    """
    views_by_name: dict[str, list[View]] = {}
    for member in findings.members:
        listed = list_views(member.views, member.preprocessing.size)
        views_by_name.setdefault(member.pool_name, []).extend(listed)
    name = max(views_by_name, key=lambda name: len(views_by_name[name]))
    views = views_by_name[name]
    if len(views) < 2:
        return None
    split = [member for member in findings.members if member.pool_name == name]
    member = split[0]
    image_id = str(findings.splits.test.image_ids[0])
    pixels = decode(image_id)
    height, width = pixels.shape[:2]
    return document.SeenImage(
        member=name,
        views=describe_views(member.views, member.preprocessing.size)
        if len(split) == 1
        else f"{len(views)} views, each a member of its own",
        image_id=image_id,
        width=width,
        height=height,
        png_base64=png(pixels),
        scales=_scales(views, (height, width), member),
    )


def _scales(
    views: Sequence[View], shape: tuple[int, int], member: Member
) -> tuple[document.ViewsAtScale, ...]:
    preprocessing = member.preprocessing
    groups: dict[str, list[View]] = {}
    for view in views:
        groups.setdefault(_title(view, preprocessing.size), []).append(view)
    scales = []
    for title, group in groups.items():
        regions = dict.fromkeys(
            region_of(view, shape, preprocessing.size, preprocessing.resize) for view in group
        )
        scales.append(
            document.ViewsAtScale(
                title=title,
                views=len(group),
                mirrored=sum(view.flip for view in group),
                regions=tuple(
                    document.Region.model_validate(
                        dict(
                            zip(
                                ("left", "top", "width", "height"),
                                (round(value, 4) for value in astuple(region)),
                                strict=True,
                            )
                        )
                    )
                    for region in regions
                ),
            )
        )
    return tuple(scales)


def _title(view: View, size: int) -> str:
    if isinstance(view, Square):
        return f"the square of {size} x {size} pixels, moved and scaled"
    if isinstance(view, Crop):
        return f"crops of {size} x {size} pixels, short side {view.short_side}"
    return f"the whole image, short side {view.short_side}"
