"""The table of a stage: means of its rows, their differences to the base, and which of them wins."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ensemble.report.documents.study import SeedMean, StudyRow, StudyStage
from ensemble.statistics import mean_sd
from jobs.study.compare import against_base, choose
from jobs.study.rows import TrainedRow
from jobs.study.settings import StageConfig, StudyConfig, VariantConfig


def judge_stage(
    config: StudyConfig,
    stage: StageConfig,
    rows: Sequence[TrainedRow],
    counts: Mapping[str, int],
) -> StudyStage:
    """Make the table of a stage, and choose its winner on the validation split.

    Args:
        config: The study.
        stage: The stage.
        rows: Its rows, the base first.
        counts: Number of parameters by the name of the row.
    """
    base = rows[0]
    judged = [row for row in rows if row.reason is None]
    fair = [
        row for row in judged if not row.variant.settings.adds_validation and not row.average_of
    ]
    choice = choose(np.stack([row.wrong_validation for row in fair]), config.resamples, config.seed)
    differences = dict(
        zip(
            (row.variant.name for row in judged[1:]),
            against_base(
                [row.wrong_test for row in judged[1:]],
                base.wrong_test,
                config.resamples,
                config.seed,
            ),
            strict=True,
        )
    )
    shares = {row.variant.name: float(s) for row, s in zip(fair, choice.shares, strict=True)}
    lines = []
    for row in rows:
        name, adds_validation = row.variant.name, row.variant.settings.adds_validation
        has_validation = row.reason is None and not adds_validation
        lines.append(
            StudyRow(
                name=name,
                architecture=row.variant.architecture,
                settings=_differing(base.variant.settings, row.variant.settings),
                parameters=counts[name],
                n=row.num_trained,
                reason=row.reason,
                average_of=row.average_of,
                adds_validation=adds_validation,
                validation=_seed_mean(row.wrong_validation) if has_validation else None,
                test=_seed_mean(row.wrong_test) if row.reason is None else None,
                seconds=row.seconds,
                against_base=differences.get(name),
                chosen_share=shares.get(name),
                is_winner=row is fair[choice.winner],
            )
        )
    curves = tuple(row.curve for row in rows if row.curve is not None)
    return StudyStage(
        name=stage.name, keeps_base=stage.keeps_base, rows=tuple(lines), curves=curves
    )


def _seed_mean(wrong: np.ndarray) -> SeedMean:
    mean = mean_sd(wrong.mean(axis=1).tolist())
    return SeedMean(mean=mean.mean, sd=mean.sd)


def _differing(base: VariantConfig, settings: VariantConfig) -> dict[str, str]:
    """List the settings that differ from the base's, by their full name."""
    before, after = (_flat(_set_values(s)) for s in (base, settings))
    return {
        key: str(value) for key, value in after.items() if key not in before or before[key] != value
    }


def _set_values(settings: VariantConfig) -> dict[str, Any]:
    document = settings.model_dump(mode="json", exclude_unset=True)
    return {key: value for key, value in document.items() if value not in (None, {}, False)}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = dict[str, Any]()
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
