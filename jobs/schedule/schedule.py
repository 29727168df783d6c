"""The files of a schedule for each scheduler, and what somebody who installs them must know."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ensemble.errors import ConfigError
from ensemble.files import write_atomic
from jobs.schedule import airflow, argo, crontab, github, kubernetes, systemd
from jobs.schedule.cron import parse_cron
from jobs.schedule.nights import Nights, ScheduleFile
from jobs.schedule.targets import Scheduler

_RENDERERS: dict[Scheduler, Callable[[Nights], list[ScheduleFile]]] = {
    "cron": crontab.render,
    "systemd": systemd.render,
    "kubernetes": kubernetes.render,
    "kuberay": kubernetes.render_ray_cron_job,
    "argo": argo.render,
    "airflow": airflow.render,
    "github": github.render,
}


def plan_nights(
    suite: Path, cron: str, timezone: str, address: str | None, timeout_hours: int
) -> Nights:
    """Check what a schedule is made from.

    Args:
        suite: The suite's file.
        cron: The five fields of cron.
        timezone: Name of a time zone of the IANA database.
        address: URL of the dashboard of a cluster; this machine if None.
        timeout_hours: Hours after which a night is ended.

    Raises:
        ConfigError: The suite is not there, or the time or the zone cannot be read.
    """
    if not suite.is_file():
        raise ConfigError(
            f"no suite {suite}. Expected a YAML file, as `ensemble nightly` takes it."
        )
    return Nights(suite, parse_cron(cron, timezone), address, timeout_hours)


def schedule(nights: Nights, scheduler: Scheduler) -> list[ScheduleFile]:
    """Write the files of a schedule.

    Raises:
        ConfigError: The scheduler cannot run the suite from where it lies.
    """
    return _RENDERERS[scheduler](nights)


def clock_changes(nights: Nights) -> str | None:
    """Warn of nights whose local time is skipped or comes twice; None if there is none."""
    changes = nights.time.shifted_nights
    if not changes:
        return None
    days = ", ".join(f"{night:%Y-%m-%d %H:%M}" for night in changes[:2])
    return (
        f"the clock of {nights.time.timezone} is changed at the time of {len(changes)} nights a year (as "
        f"{days}): schedulers leave such a night out, or start it twice. Another hour, such as 04:00, avoids it."
    )


def write(files: Sequence[ScheduleFile], folder: Path) -> list[Path]:
    """Write the files into a folder, and return their paths.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / file.name for file in files]
    for path, file in zip(paths, files, strict=True):
        write_atomic(path, file.text)
    return paths
