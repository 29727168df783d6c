"""A submitted run's attempt as a line and as a document."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.submission.ray_jobs import Attempt


def describe(attempt: "Attempt") -> str:
    """Describe the state of an attempt in one line."""
    began = f"{attempt.started_at:%Y-%m-%d %H:%M:%S} UTC" if attempt.started_at else "not begun"
    code = f", exit code {attempt.exit_code}" if attempt.is_over else ""
    seconds = ""
    if attempt.started_at and attempt.ended_at:
        seconds = f", {(attempt.ended_at - attempt.started_at).total_seconds():.0f} s"
    return f"{attempt.state}{code}, attempt {attempt.number}, submitted {began}{seconds}"


def to_document(attempt: "Attempt") -> dict[str, Any]:
    """Give an attempt as a JSON document."""
    return {
        "run": attempt.run,
        "state": attempt.state,
        "exit_code": attempt.exit_code,
        "attempt": attempt.number,
        "job": attempt.job,
        "started_at": attempt.started_at.isoformat() if attempt.started_at else None,
        "ended_at": attempt.ended_at.isoformat() if attempt.ended_at else None,
    }
