"""Errors among all outputs of a network, where a label map leaves some of them out.

A label map onto some of the classes makes a member's task easier: it can no longer answer with a class
that the images lack. Both errors are told, so that neither is taken for the other. The network is run once
more with all of its outputs, on a sample of the test images.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ensemble.checkpoints.load import load_member
from ensemble.evaluation.outcome import Outcome
from ensemble.evaluation.reading import read_windows
from ensemble.files import read_text
from ensemble.images.index import ImageIndex
from ensemble.members.member import Member, in_precision
from ensemble.members.settings import MemberConfig
from ensemble.report.build.findings import AmongAllOutputs
from jobs.pools import fetched
from jobs.run.job import Job
from jobs.run.predict import fill_table

SAMPLE_IMAGES = 2000


def judge_among_all_outputs(job: Job, test: ImageIndex) -> dict[str, AmongAllOutputs]:
    """Judge the members whose label map leaves outputs out, by name in the config.

    Args:
        job: The run.
        test: Images of the test split; of more than 2,000, as many are drawn.
    """
    full = {
        config.name: (_load(job, config, num_outputs), num_outputs, rows)
        for config in job.config.members
        if isinstance(config.label_map, Path)
        for num_outputs, rows in [_outputs(config, test.classes)]
        if num_outputs > len(test.classes)
    }
    if not full:
        return {}
    rng = np.random.default_rng(job.config.seed)
    size = min(SAMPLE_IMAGES, len(test))
    sample = test.take(np.sort(rng.choice(len(test), size, replace=False)))
    nothing = test.take(np.arange(0))
    splits = replace(job.splits, train=nothing, search=nothing, test=sample)
    fill_table(job, "predict among all outputs", [member for member, _, _ in full.values()], splits)
    return {
        name: _judge(job, member, num_outputs, rows, sample)
        for name, (member, num_outputs, rows) in full.items()
    }


def _outputs(config: MemberConfig, classes: Sequence[str]) -> tuple[int, tuple[int, ...]]:
    """Count the outputs that a label map names, and find the one of each class."""
    from ensemble.pretrained.label_map import output_rows

    assert isinstance(config.label_map, Path)
    num_outputs = len(read_text(config.label_map).rstrip().splitlines())
    return num_outputs, output_rows(config.name, config.label_map, num_outputs, classes)


def _load(job: Job, config: MemberConfig, num_outputs: int) -> Member:
    # Here, because a run that trains all its members need not pay for torch in the driver.
    from ensemble.pretrained.import_member import import_member

    whole = fetched(config.model_copy(update={"label_map": None}), job.config.storage, job.cache)
    outputs = [str(output) for output in range(num_outputs)]
    path = import_member(whole, outputs, job.config.weights, job.cache)
    views = config.views or job.config.views
    name = f"{config.name} (all outputs)"
    member = load_member(name, path, views, job.data_sha256, trust_code=job.trust_code)
    return in_precision(member, config.precision or job.config.precision)


def _judge(
    job: Job, member: Member, num_outputs: int, rows: tuple[int, ...], sample: ImageIndex
) -> AmongAllOutputs:
    among_all, among_classes = [], []
    for (logs,), labels in read_windows(job.table, [member], sample):
        probabilities = np.exp(logs.astype(np.float64))
        among_all.append(Outcome.of(probabilities, np.array(rows)[labels]))
        among_classes.append(Outcome.of(probabilities[:, list(rows)], labels))
    return AmongAllOutputs(num_outputs, Outcome.join(among_classes), Outcome.join(among_all))
