"""Requests to an S3 store, made again where that may help: each retry is bounded, counted and logged.

The client's own retries are off, so that nothing else repeats a request.
"""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from ensemble.config import S3_SCHEME
from ensemble.errors import ConfigError, DamagedTableError, TableError
from ensemble.storage.s3_client import (
    MAX_SKEW_S,
    MISDIRECTED,
    REFUSED,
    SKEWED,
    clock_difference_s,
    error_code,
    is_unreachable,
    refusals,
    temporary_errors,
    untrusted,
)

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 5.0
# Attempts at a host that was never reached: a wrong endpoint should not take long to be told.
FIRST_CONTACT_ATTEMPTS = 4

_Value = TypeVar("_Value")


class Requests:
    """Makes requests below one prefix, and knows whether the store has ever answered.

    Args:
        url: s3://bucket/prefix.
        attempts: Tries of each request.

    Attributes:
        retries: Number of requests that were made again.
    """

    def __init__(self, url: str, attempts: int) -> None:
        self._url, self._attempts = url, attempts
        self._refusals, self._temporary_errors = refusals(), temporary_errors()
        self._has_answered = False
        self.retries = 0

    def make(self, what: str, key: str, request: Callable[[str], _Value]) -> _Value:
        """Make a request, again where that may help.

        Args:
            what: The request as a verb: read, write, list.
            key: Key that the request is about, below the prefix.
            request: Makes the request for bucket/prefix/key.

        Raises:
            FileExistsError: The store refused to overwrite.
            DamagedTableError: There is no such object.
            ConfigError: The store never answered a request, so it is not what the settings say.
            TableError: The store refuses the request, or did not answer in all attempts.
        """
        path = f"{self._url}/{key}".rstrip("/")
        for attempt in range(1, self._attempts + 1):
            try:
                value = request(path.removeprefix(S3_SCHEME))
                self._has_answered = True
                return value
            except FileExistsError:
                self._has_answered = True
                raise
            except FileNotFoundError as error:
                if what in ("list", "write", "create") or error_code(error) == "NoSuchBucket":
                    bucket = path.removeprefix(S3_SCHEME).partition("/")[0]
                    raise self._failed(
                        f"cannot {what} {path}: there is no bucket {bucket!r}. Make it, or mend its "
                        "name or storage.endpoint."
                    ) from error
                raise DamagedTableError(
                    f"cannot {what} {path}: there is no such object."
                ) from error
            except self._refusals as error:
                raise self._failed(_refused(f"cannot {what} {path}", error)) from error
            except self._temporary_errors as error:
                self._check_worth_another(f"cannot {what} {path}", attempt, error)
                self.retries += 1
                wait = min(FIRST_WAIT_S * 2**attempt, LONGEST_WAIT_S) * random.uniform(0.5, 1)
                log.info(
                    "%s of %s: %s in attempt %d; again in %.2f s",
                    what,
                    path,
                    type(error).__name__,
                    attempt,
                    wait,
                )
                time.sleep(wait)
        raise AssertionError

    def _check_worth_another(self, what: str, attempt: int, error: Exception) -> None:
        """Give up where no other attempt helps, or enough were made.

        Raises:
            ConfigError: The store never answered a request.
            TableError: The store has answered before.
        """
        if reason := untrusted(error):
            raise self._failed(f"{what}: {reason}.") from error
        if (code := error_code(error)) in REFUSED:
            raise self._failed(_refused(what, error)) from error
        if code in MISDIRECTED:
            raise self._failed(
                f"{what}: the store answers {code} ({error}). Mend storage.region or "
                "storage.endpoint, or set storage.checksums=when_required."
            ) from error
        self._has_answered |= bool(code)
        is_unknown = not self._has_answered and is_unreachable(error)
        if attempt == self._attempts or (is_unknown and attempt >= FIRST_CONTACT_ATTEMPTS):
            hint = "What was committed is kept; run" if self._has_answered else None
            raise self._failed(
                f"{what}: {attempt} attempts failed, the last one with {type(error).__name__}: "
                f"{error}. {hint or 'Mend storage.endpoint, or run'} again when the store answers."
            ) from error

    def _failed(self, message: str) -> ConfigError | TableError:
        return TableError(message) if self._has_answered else ConfigError(message)


def _refused(what: str, error: Exception) -> str:
    ahead_s = clock_difference_s(error) or 0.0
    if abs(ahead_s) > MAX_SKEW_S or error_code(error) in SKEWED:
        how = f"{abs(ahead_s) / 60:.0f} minutes {'ahead of' if ahead_s > 0 else 'behind'}"
        return (
            f"{what}: the store refuses ({error}). The clock of this machine is {how} the store's, and "
            "requests with another time are refused. Set the clock, as with `timedatectl set-ntp true`, "
            "and give the same command again."
        )
    return (
        f"{what}: the store refuses ({error}). Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
        "storage.profile, or storage.anonymous=true for public data."
    )
