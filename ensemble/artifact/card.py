"""The model card of an artifact: README.md, whose header the Hugging Face hub reads."""

import json
import math
from collections.abc import Sequence

from ensemble.artifact.about import About, Figure
from ensemble.artifact.document import ArtifactDocument, NetworkEntry

FILE_NAME = "README.md"

_UNITS = {"seconds": ("ms", 1e3), "flops": ("GFLOPs", 1e-9), "parameters": ("M parameters", 1e-6)}
_UNKNOWN = "not known"
_Z = 1.959964  # of a 95 % interval


def render_card(document: ArtifactDocument, about: About) -> str:
    """Render the model card.

    Args:
        document: What the artifact's `ensemble.json` says.
        about: What the artifact tells of itself.
    """
    parts = [_header(document, about), f"# {about.name}", _summary(document, about)]
    if about.figures:
        parts += ["## Figures", _figures(about)]
    parts += ["## Members", _members(document, about), "## Use", _USE]
    if about.golden is not None:
        parts.append(_golden(about))
    return "\n\n".join(parts) + "\n"


_USE = """```python
from ensemble import predictor

loaded = predictor.load("this/folder")
prediction = loaded.predict(["photo.jpg"])
print(prediction.labels, prediction.top(5), prediction.explain(0))
```

`ensemble verify this/folder` hashes every file again and replays the golden inputs; `sha256sum -c SHA256SUMS`
does the first of these anywhere. `requirements.txt` names the versions of the libraries that it was made with."""


def _header(document: ArtifactDocument, about: About) -> str:
    """Give the header in YAML; JSON strings are YAML's, too."""
    licences = sorted({entry.licence for entry in document.networks if entry.licence})
    lines = [
        "---",
        "pipeline_tag: image-classification",
        "library_name: ensemble-as-a-job",
        "license: other",
        f"license_name: {json.dumps('; '.join(licences) or _UNKNOWN)}",
        "tags: [image-classification, ensemble]",
    ]
    answer = next((figure for figure in about.figures if figure.is_answer), None)
    if answer is not None and about.images:
        lines += [
            "model-index:",
            f"- name: {json.dumps(about.name)}",
            "  results:",
            "  - task: {type: image-classification}",
            f"    dataset: {{name: {json.dumps(about.data or _UNKNOWN)}, type: custom, split: test}}",
            "    metrics:",
        ]
        for k, errors in sorted(answer.errors.items()):
            low, high = _interval(errors, about.images)
            lines += [
                f"    - type: {'accuracy' if k == 1 else f'top-{k} accuracy'}",
                f"      value: {1 - errors / about.images:.5f}",
                f"      name: 'top-{k} accuracy, 95 % interval {1 - high:.4f} to {1 - low:.4f}'",
            ]
    return "\n".join([*lines, "---"])


def _summary(document: ArtifactDocument, about: About) -> str:
    mean = "logarithms of probabilities" if document.combine == "logs" else "probabilities"
    text = (
        f"An ensemble of {len(document.members)} image classifiers for {len(document.classes)} classes: the "
        f"weighted mean of their {mean}, with weights of the search `{document.search}`"
    )
    if document.temperature != 1:
        text += f", at a temperature of {document.temperature:.3f}"
    if document.routing is not None:
        text += (
            f". Unsure images are answered by one of {len(document.routing.subclassifiers)} sub-classifiers "
            "of classes that are easily confused"
        )
    text += "."
    if document.cascade is not None:
        steps = [step.member for step in document.cascade.steps]
        text += (
            f" It is a cascade: {_list(steps)} answer one after the other, and an image stops where the "
            f"{document.cascade.signal} of the answer is high enough."
        )
    if document.conformal is not None:
        text += (
            " Each answer has a set of classes that holds the label of a new image like those it was fitted on with "
            f"a probability of {document.conformal.coverage:.0%} or more (RAPS, fitted on "
            f"{document.conformal.images:,} images)."
        )
    if covered := [fallback.missing for fallback in document.fallbacks]:
        text += f" It also holds weights for the loss of {_list(covered)}."
    return text


def _figures(about: About) -> str:
    ks = sorted({k for figure in about.figures for k in figure.errors})
    heads = [
        "predictor",
        "members",
        *(f"top-{k} error [95 %]" for k in ks),
        "NLL",
        "against the best",
    ]
    lines = [_row(heads), _row(["---"] * len(heads))]
    for figure in about.figures:
        label = f"**{figure.label}** (answers)" if figure.is_answer else figure.label
        errors = [_rate(figure, k, about.images) for k in ks]
        loss = "" if figure.nll is None else f"{figure.nll:.4f}"
        lines.append(_row([label, str(figure.members), *errors, loss, _difference(figure)]))
    return (
        f"On {about.images:,} images{f' of {about.data}' if about.data else ''} that nothing was fitted on. "
        "Intervals of rates are Wilson's, of differences the paired bootstrap's, in percentage points.\n\n"
        + "\n".join(lines)
    )


def _rate(figure: Figure, k: int, images: int) -> str:
    if k not in figure.errors:
        return ""
    low, high = _interval(figure.errors[k], images)
    return f"{figure.errors[k] / images:.2%} [{low:.2%}, {high:.2%}]"


def _interval(errors: int, n: int) -> tuple[float, float]:
    """Bound a rate of errors.

    Source: Wilson 1927 (the score interval).
    """
    rate, spread = errors / n, _Z**2 / n
    centre = (rate + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(rate * (1 - rate) / n + spread / (4 * n)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _difference(figure: Figure) -> str:
    if figure.against_best is None:
        return ""
    mean, low, high = (100 * value for value in figure.against_best)
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def _members(document: ArtifactDocument, about: About) -> str:
    units = [u for u in _UNITS if any(c.get(u) for c in about.costs.values())]
    heads = ["member", "weight", *(f"{_UNITS[unit][0]} an image" for unit in units)]
    heads = [head.replace("parameters an image", "parameters") for head in heads]
    heads += ["origin", "licence"]
    lines = [_row(heads), _row(["---"] * len(heads))]
    weights = {entry.name: entry.weight_units for entry in document.members}
    for entry in document.networks:
        costs = about.costs.get(entry.name, {})
        figures = [
            f"{costs[unit] * _UNITS[unit][1]:.3g}" if costs.get(unit) else "" for unit in units
        ]
        lines.append(
            _row(
                [
                    entry.name,
                    f"{weights.get(entry.name, 0) / 1e5:.5g}",
                    *figures,
                    _text(entry.source),
                    _text(entry.licence),
                ]
            )
        )
    text = "\n".join(lines)
    if about.machine and units:
        text += f"\n\nCosts were measured on {about.machine}."
    if unknown := [entry.name for entry in document.networks if not _is_licensed(entry)]:
        text += (
            f"\n\nThe licence of {_list(unknown)} is not known here: ask whoever made the weights before you "
            "pass them on."
        )
    return text


def _golden(about: About) -> str:
    assert about.golden is not None
    return (
        f"`golden/` holds {len(about.golden.images)} of the test images with the answers of this ensemble. They "
        "are images of the data: look at them before you publish the folder."
    )


def _is_licensed(entry: NetworkEntry) -> bool:
    return bool(entry.licence) and entry.licence != _UNKNOWN


def _text(value: str) -> str:
    return value.replace("|", "\\|") or _UNKNOWN


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _list(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
