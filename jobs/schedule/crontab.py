"""A line for cron."""

import shlex
from pathlib import Path

from jobs.schedule.nights import (
    FINAL_CODES,
    RETRIES,
    RETRY_AFTER_S,
    Nights,
    ScheduleFile,
    comment,
)


def render(nights: Nights) -> list[ScheduleFile]:
    """Write the lines of a crontab.

    The command runs in the folder where the schedule was made. `flock` lets no two nights overlap,
    `timeout` ends one that hangs, and one that was killed or failed is started again; a judged one is not.
    """
    log = Path.cwd() / f"{nights.name}.log"
    attempt = f"timeout {nights.timeout_s} {shlex.join(nights.command())}"
    # 124 is the code of `timeout`.
    judged = "|".join(map(str, (0, *FINAL_CODES, 124)))
    attempts = (
        f"for attempt in {' '.join(map(str, range(1, RETRIES + 2)))}; do "
        f"{attempt}; code=$?; "
        f"case $code in {judged}) break;; esac; "
        f"sleep {RETRY_AFTER_S}; done; exit $code"
    )
    command = (
        f"cd {shlex.quote(str(Path.cwd()))} && flock -n {shlex.quote(f'/tmp/{nights.name}.lock')} "
        f"sh -c {shlex.quote(attempts)} >> {shlex.quote(str(log))} 2>&1"
    )
    head = comment(
        f"The nights of {nights.suite}. Add these lines to those that `crontab -e` shows.",
        "CRON_TZ is read by cronie (Fedora, RHEL, Arch). The cron of Debian and Ubuntu does not know it and",
        f"takes the machine's time zone: there it must be {nights.time.timezone} (`timedatectl` prints it), or",
        "use --to systemd. A missed night is not made up for. Another clock should watch this one, as by this",
        f"line on another machine: 0 * * * * {shlex.join(nights.check_command())}",
    )
    # A percent sign ends a command of cron unless it is escaped, also within quotes.
    line = f"{nights.time.fields} {command}".replace("%", r"\%")
    return [
        ScheduleFile(
            f"{nights.name}.cron", f"{head}SHELL=/bin/sh\nCRON_TZ={nights.time.timezone}\n{line}\n"
        )
    ]
