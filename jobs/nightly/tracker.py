"""Each night as a run of MLflow, for teams that look at all their figures there. It cannot fail the night."""

import os
from importlib.util import find_spec

from ensemble.errors import ConfigError
from ensemble.report.documents.nightly import Night
from jobs.nightly.candidate import Say
from jobs.nightly.pages import verdict_of, verdict_of_night
from jobs.nightly.suite import SuiteConfig

# A server that does not answer is given up after seconds instead of minutes, unless the user says otherwise.
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def check_tracker(suite: SuiteConfig) -> None:
    """Check, before a night begins, that what the suite asks for is installed.

    Raises:
        ConfigError: The suite names a server of MLflow, and MLflow is not installed.
    """
    if suite.mlflow is not None and find_spec("mlflow") is None:
        raise ConfigError(
            "the suite's setting `mlflow` needs mlflow, which is not installed: pip install -e '.[mlflow]'. Or "
            "leave the setting out."
        )


def track(suite: SuiteConfig, number: int, night: Night, say: Say) -> None:
    """Write a night's figures as one run, in an experiment of the suite's name.

    Args:
        suite: The suite, with the tracking URI.
        number: Number of the night's record.
        night: The record.
        say: Prints a line where the server does not take the run.
    """
    if suite.mlflow is None:
        return
    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunTag
    from mlflow.exceptions import MlflowException

    at = int(1000 * night.written_at.timestamp())
    metrics = [Metric(key, value, at, number) for key, value in _metrics(night).items()]
    tags = [RunTag(key, text) for key, text in _tags(number, night).items()]
    try:
        client = MlflowClient(suite.mlflow)
        experiment = client.get_experiment_by_name(night.suite)
        home = experiment.experiment_id if experiment else client.create_experiment(night.suite)
        run = client.create_run(home, start_time=at, run_name=str(night.date)).info.run_id
        client.log_batch(run, metrics=metrics, tags=tags)
        client.set_terminated(run)
    except (MlflowException, OSError) as error:
        say(f"warning: MLflow does not take the night ({error}); it is done all the same")


def _metrics(night: Night) -> dict[str, float]:
    values = {
        f"{row.name}/{figure.metric}": figure.value for row in night.rows for figure in row.figures
    }
    losses: dict[str, float] = {}
    for row in night.rows:
        for c in row.comparisons:
            if c.loss is not None:
                name = f"{row.name}/{c.metric}_loss_{c.baseline}"
                losses[name] = max(c.loss, losses.get(name, c.loss))  # of members: the worst one's
    return values | losses


def _tags(number: int, night: Night) -> dict[str, str]:
    verdicts = {f"{row.name}/verdict": verdict_of(row) for row in night.rows}
    return {"record": str(number), "verdict": verdict_of_night(night), **verdicts}
