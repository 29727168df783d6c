"""`ensemble search --save`: the artifact of a search on a finished run."""

import tempfile
from pathlib import Path

import numpy as np

from ensemble.artifact.from_table import golden_from_table
from ensemble.artifact.write import save as save_artifact
from ensemble.evaluation.calibration import calibrate
from ensemble.images.index import ImageIndex
from ensemble.images.open import open_source
from ensemble.outranking.weighting import Weighting
from ensemble.report.build.search import SearchFindings
from ensemble.report.documents.search import SearchReport
from ensemble.search.comparison import predictors
from ensemble.search.fallbacks import find_fallbacks_among_selected
from ensemble.search.recommend import answering
from ensemble.search.settings import SearchConfig
from jobs.about import about_search
from jobs.stored_runs.finished import FinishedRun, average_logs
from jobs.stored_runs.layout import ARTIFACT
from jobs.stored_runs.members import load_members
from jobs.stored_runs.publish import publish_artifact


def save_search(
    run: FinishedRun,
    images: ImageIndex,
    search: SearchConfig,
    findings: SearchFindings,
    report: SearchReport,
    folder: str,
) -> str:
    """Write the artifact of a search into its folder.

    Args:
        run: The run.
        images: Images that the weights were fitted on.
        search: Settings of the search.
        findings: What the search found.
        report: The report of the search.
        folder: Folder of the search, relative to the run's.

    Returns:
        The place of the artifact.

    Raises:
        ConfigError: The weights of a member are not on this machine, or the predictions were imported.
    """
    rows = predictors(findings.table, search, findings.ensemble)
    row = answering(rows, findings.recommendation, search)
    answer, temperatures = row.ensemble, dict(findings.temperatures)
    logs = average_logs(run, images, temperatures, answer.weighting)
    temperature = calibrate(logs, images.labels, search.seed).value
    members = load_members(run, answer.selected, temperatures)
    units = dict(zip(answer.members, answer.units.tolist(), strict=True))
    weighting = Weighting(
        np.array([units[member.name] for member in members]), answer.combine, answer.scale
    )
    costs = {
        member.name: {unit: by_name[member.name] for unit, by_name in run.costs.items()}
        for member in members
    }
    decode = open_source(run.config.image_source).decode
    golden = golden_from_table(
        run.table, members, weighting, None, temperature, run.splits.test, decode
    )
    about = about_search(run.config, report, row.key, costs, golden)
    fallbacks = find_fallbacks_among_selected(findings.table, answer, search)
    key = f"{folder}/{ARTIFACT}"
    with tempfile.TemporaryDirectory() as temporary:
        local = Path(run.files.url) / key if not run.files.is_remote else Path(temporary) / ARTIFACT
        save_artifact(
            local,
            members,
            weighting,
            run.splits.test.classes,
            answer.kind,
            None,
            fallbacks,
            temperature,
            about,
            conformal=findings.conformal,
        )
        if run.files.is_remote:
            publish_artifact(run.files, key, local)
    return f"{run.files.url}/{key}"
