"""The main job: from labelled images and a pool of members to an ensemble, an artifact and a report."""

from rich.console import Console

from ensemble.report.documents.run import Report
from jobs.run.job import RunOptions
from jobs.run.judge import judge
from jobs.run.open import open_job
from jobs.run.predict import predict
from jobs.run.save import save
from jobs.run.search import search_and_fine_tune
from jobs.run.train import load_or_train
from jobs.settings import RunConfig
from jobs.stored_runs.layout import RunFolder


def run(config: RunConfig, folder: RunFolder, console: Console, options: RunOptions) -> Report:
    """Do the whole job, computing only what is not there yet.

    Args:
        config: Checked settings.
        folder: Where the run's files go; what an earlier attempt left there is used.
        console: Where progress goes.
        options: How this attempt behaves.

    Raises:
        ProjectError: With one message that says what, what was expected, and what to do.
    """
    with open_job(config, folder, console, options) as job:
        members = load_or_train(job)
        predictions = predict(job, members)
        fitted, predictions = search_and_fine_tune(job, predictions)
        findings = judge(job, predictions, fitted)
        return save(job, findings)
