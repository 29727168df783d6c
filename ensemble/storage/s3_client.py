"""The S3 client without retries and caches, and what its errors mean.

The client is imported inside functions, because it is slow to load.
"""

import ssl
import time
from email.utils import parsedate_to_datetime
from typing import Any

from ensemble.errors import ConfigError
from ensemble.storage.settings import S3Config

# Answers that no other attempt changes, and that other settings may.
MISDIRECTED = frozenset(
    {
        "301",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "InvalidBucketName",
        "MissingContentLength",
        "NotImplemented",
        "PermanentRedirect",
    }
)
# The answer of a store that knows no unsigned requests (rclone) to such a request.
REFUSED = frozenset({"UnsupportedAlgorithm"})
# Codes of requests whose time is not the store's, and how far stores let the clocks be apart.
SKEWED, MAX_SKEW_S = frozenset({"RequestTimeTooSkewed", "RequestExpired"}), 300.0


def error_code(error: Exception) -> str:
    """Find the code that the store gave an error; empty if the error is not an answer of the store."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def clock_difference_s(error: Exception) -> float | None:
    """Tell how far this machine's clock is ahead of the store's, by the date of its answer; none without one."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
            try:
                date = parsedate_to_datetime(headers.get("date", ""))
                return time.time() - date.timestamp()
            except (TypeError, ValueError):  # no date, or no readable one
                return None
    return None


def is_unreachable(error: Exception) -> bool:
    """Tell whether no server listens at the endpoint."""
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

    return isinstance(error, EndpointConnectionError | ConnectTimeoutError)


def untrusted(error: Exception) -> str:
    """Explain why TLS with the server failed; empty if the error is another one."""
    from botocore.exceptions import SSLError

    if not isinstance(error, SSLError):
        return ""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return (
            f"its certificate is not trusted ({error}). Set AWS_CA_BUNDLE to a file with the "
            "certificate of its CA, or mend storage.endpoint"
        )
    if "WRONG_VERSION_NUMBER" in str(error):
        return (
            f"it does not speak TLS ({error}). Mend storage.endpoint, or begin it with http:// if you "
            "trust the network"
        )
    return ""


def connect(config: S3Config) -> Any:
    """Make an `s3fs.S3FileSystem` without retries and caches of its own.

    Raises:
        ConfigError: The profile or the CA bundle does not exist, or cannot be read.
    """
    import s3fs

    _check_user_files(config)

    fs = s3fs.S3FileSystem(
        anon=config.anonymous,
        profile=config.profile,
        endpoint_url=config.endpoint,
        client_kwargs={"region_name": config.region} if config.region else {},
        config_kwargs={
            "request_checksum_calculation": config.checksums,
            "response_checksum_validation": config.checksums,
            "retries": {"total_max_attempts": 1},
            "connect_timeout": 10,
            "read_timeout": 60,
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    fs.retries = 1
    return fs


def _check_user_files(config: S3Config) -> None:
    """Refuse a wrong profile or CA bundle before a request fails because of it."""
    import botocore.session
    from botocore.exceptions import ConfigParseError

    session = botocore.session.Session(profile=config.profile)
    try:
        known, profile = session.available_profiles, session.profile
    except ConfigParseError as error:
        raise ConfigError(
            f"{error}. Mend that file, or name another in AWS_CONFIG_FILE or "
            "AWS_SHARED_CREDENTIALS_FILE."
        ) from error
    if profile is not None and profile not in known:
        raise ConfigError(
            f"there is no profile {profile!r} in the AWS configuration files. Known: "
            f"{', '.join(known) or 'none'}. Mend storage.profile or AWS_PROFILE."
        )
    bundle = session.get_config_variable("ca_bundle")
    if bundle and not (config.endpoint or "").startswith("http://"):
        try:
            ssl.create_default_context(cafile=bundle)
        except OSError as error:
            raise ConfigError(
                f"cannot read the CA bundle {bundle!r}: {error.strerror or error}. AWS_CA_BUNDLE, or "
                "ca_bundle of the profile, must name a file of PEM certificates."
            ) from error


def refusals() -> tuple[type[Exception], ...]:
    """Give the errors that no other attempt mends: keys that are missing, wrong, or lack a right."""
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError

    return (PermissionError, NoCredentialsError, PartialCredentialsError)


def temporary_errors() -> tuple[type[Exception], ...]:
    """Give the errors that another attempt may mend: lost connections, short answers, 5xx, 409."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError, aiohttp.ClientError)
