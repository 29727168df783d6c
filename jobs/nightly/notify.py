"""Messages to other services at the end of a night: a webhook for alerts, a heartbeat. Neither can fail the night."""

import json
from collections.abc import Sequence
from http.client import HTTPException
from urllib.request import Request, urlopen

from jobs.nightly.alerts import Alert
from jobs.nightly.candidate import Say
from jobs.nightly.suite import SuiteConfig
from jobs.nightly.text import describe_alert

_TIMEOUT_S = 10


def notify(
    suite: SuiteConfig, opened: Sequence[Alert], resolved: Sequence[Alert], say: Say
) -> None:
    """Send one message for all alerts that opened or were resolved tonight, then the heartbeat.

    Args:
        suite: The suite, with the URLs.
        opened: Alerts that tonight opened.
        resolved: Alerts that tonight resolved.
        say: Prints a line where a service does not answer.
    """
    lines = [f"ALERT {describe_alert(alert)}" for alert in opened]
    lines += [f"resolved {describe_alert(alert)}" for alert in resolved]
    if suite.webhook and lines:
        text = f"{suite.name}: " + "\n".join(lines)
        # Slack's own marks are escaped, as its documentation asks.
        text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        _request(
            Request(
                suite.webhook,
                data=json.dumps({"text": text}).encode(),
                headers={"Content-Type": "application/json"},
            ),
            "webhook",
            say,
        )
    if suite.heartbeat:
        _request(Request(suite.heartbeat), "heartbeat", say)


def _request(request: Request, name: str, say: Say) -> None:
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:
            answer.read(1024)
    except (OSError, ValueError, HTTPException) as error:
        say(f"warning: the {name} does not answer ({error}); the night is done all the same")
