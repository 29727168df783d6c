"""The S3 client as we want it, and what its errors mean. Imports it inside functions: it is slow to load."""

from typing import Any

from ensemble.table.storage import S3Config

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


def error_code(error: Exception) -> str:
    """The store's own name of an error; empty if it is none of its."""
    for each in (error, error.__cause__):
        response = getattr(each, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
    return ""


def is_unreachable(error: Exception) -> bool:
    """Whether nobody listens at the endpoint."""
    from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError

    return isinstance(error, EndpointConnectionError | ConnectTimeoutError)


def connect(config: S3Config) -> Any:
    """An `s3fs.S3FileSystem` without retries and caches of its own."""
    import s3fs

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


def refusals() -> tuple[type[Exception], ...]:
    """What no other attempt mends: no keys, wrong keys, no right."""
    from botocore.exceptions import NoCredentialsError, PartialCredentialsError, ProfileNotFound

    return (PermissionError, NoCredentialsError, PartialCredentialsError, ProfileNotFound)


def temporary_errors() -> tuple[type[Exception], ...]:
    """What another attempt may mend: lost connections, short answers, 5xx, and 409 of a race."""
    import aiohttp
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError, aiohttp.ClientError)
