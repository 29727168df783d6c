"""A timer and a service for systemd, of a user or of the system."""

from pathlib import Path

from jobs.schedule.nights import (
    FINAL_CODES,
    RETRIES,
    RETRY_AFTER_S,
    Nights,
    ScheduleFile,
    comment,
)

_QUOTED = str.maketrans({"\\": r"\\", '"': r"\"", "%": "%%", "$": "$$", "\n": r"\n"})


def render(nights: Nights) -> list[ScheduleFile]:
    """Write a timer with the same times, and the service that it starts.

    A service that runs is not started twice. It is started again if it was killed or failed, not if it was
    judged; its log is the journal.
    """
    codes = " ".join(map(str, FINAL_CODES))
    name = nights.name
    folder = str(Path.cwd()).replace("%", "%%")
    service = comment(
        f"The nights of {nights.suite}. Copy this file and {name}.timer to ~/.config/systemd/user/, then:",
        f"systemctl --user daemon-reload && systemctl --user enable --now {name}.timer",
        "loginctl enable-linger    the nights also come while you are logged out",
        f"journalctl --user -u {name}    the log",
    ) + (
        "[Unit]\n"
        f"Description=Nightly evaluation of {nights.suite.name.translate(_QUOTED)}\n"
        f"StartLimitIntervalSec={nights.timeout_s}\n"
        f"StartLimitBurst={RETRIES + 1}\n\n"
        "[Service]\n"
        "Type=oneshot\n"
        f"WorkingDirectory={folder}\n"
        f"ExecStart={' '.join(map(quote, nights.command()))}\n"
        f"TimeoutStartSec={nights.timeout_s}\n"
        "Restart=on-failure\n"
        f"RestartSec={RETRY_AFTER_S}\n"
        f"RestartPreventExitStatus={codes}\n"
    )
    timer = (
        "[Unit]\n"
        f"Description=When {name} runs\n\n"
        "[Timer]\n"
        + "".join(f"OnCalendar={line}\n" for line in nights.time.on_calendar)
        + "# A night that came while the machine was off is made up for when it is on again.\n"
        "Persistent=true\n"
        "AccuracySec=1s\n\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )
    return [ScheduleFile(f"{name}.service", service), ScheduleFile(f"{name}.timer", timer)]


def quote(word: str) -> str:
    """Write a word of a command so that systemd reads it as it is."""
    return f'"{word.translate(_QUOTED)}"'
