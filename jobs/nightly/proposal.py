"""A proposal: whether weights that are selected anew, from the deployed ones on, would do better tonight."""

import numpy as np

from ensemble.evaluation.outcome import evaluate
from ensemble.evaluation.reading import ColumnAtTemperature, build_outranking
from ensemble.images.index import ImageIndex
from ensemble.nightly.outcomes import Outcomes
from ensemble.nightly.paired import compare_errors
from ensemble.search.crossfit import stratified_folds
from ensemble.search.fit import fit
from ensemble.search.settings import SearchConfig
from ensemble.table.logit_table import LogitTable
from jobs.nightly.candidate import Candidate


def propose(table: LogitTable, candidate: Candidate, images: ImageIndex, deployed: Outcomes) -> str:
    """Select weights anew on each half of the images, and judge them on the other, from the table alone.

    Args:
        table: The table, with the rows of every member.
        candidate: What is deployed; its weights are where the search starts.
        images: The images of the night.
        deployed: Outcomes of what is deployed on them.

    Returns:
        A sentence; empty where there are no weights to select.
    """
    document = candidate.deployment.document
    if len(document.members) < 2 or document.routing or document.cascade:
        return ""
    columns = [
        ColumnAtTemperature(m.name, candidate.deployment.columns[m.name], m.temperature)
        for m in document.members
    ]
    total = sum(member.weight_units for member in document.members)
    search = SearchConfig(
        kind="refine",
        combine=document.combine,
        start={member.name: member.weight_units / total for member in document.members},
    )
    folds = stratified_folds(images.labels, 2, search.seed)
    is_error = np.zeros(len(images), bool)
    for fold in (0, 1):
        fitted_on, judged_on = (np.flatnonzero(rows) for rows in (folds != fold, folds == fold))
        outranking = build_outranking(
            table, columns, images.take(fitted_on), combines=(document.combine,)
        )
        weighting = fit(outranking, search).weighting
        outcome = evaluate(table, columns, images.take(judged_on), {"": weighting})[""]
        is_error[judged_on] = outcome.is_error(1)
    evidence = compare_errors(deployed.is_error(1), is_error)
    return (
        f"proposal: weights selected anew from the deployed ones, each half of the images judged by weights of the "
        f"other, give {100 * is_error.mean():.2f} % top-1 error, {100 * evidence.loss:+.2f} points "
        f"(p = {min(evidence.p_better, evidence.p_worse):.2g})"
    )
