"""The address of a cluster to join: which form it has, and whether a head answers there, before Ray is asked."""

import os
import socket

from ensemble.errors import ClusterError, ConfigError

LOCAL, AUTO, VARIABLE = "local", "auto", "RAY_ADDRESS"
TIMEOUT_S = 5.0
_EXPECTED = "Expected the address of a head, as 10.0.0.1:6379"
# What a client of HTTP/2, which gRPC is, says first: the preface, and an empty frame of settings.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_FRAME_BYTES, _KIND, _SETTINGS = 9, 3, 4


def ray_address() -> str:
    """Return the address that RAY_ADDRESS holds, or `local`."""
    return os.environ.get(VARIABLE, "").strip() or LOCAL


def is_named(address: str | None) -> bool:
    """Tell whether an address names a cluster, and not an embedded Ray."""
    return address not in (None, "", LOCAL)


def check_head(address: str, origin: str) -> None:
    """See that a head answers at an address; Ray itself would try for minutes.

    Args:
        address: Host and port, or `auto`.
        origin: Where the address comes from, as RAY_ADDRESS.

    Raises:
        ConfigError: The address is not that of a head.
        ClusterError: Nothing answers, or what answers is no head.
    """
    if address == AUTO:
        return  # Ray looks for a head on this machine, and says at once if there is none
    host, port = _parse(address, origin)
    undo = f"`unset {VARIABLE}`" if origin == VARIABLE else f"leave {origin} out"
    end = f"Start the cluster and try again; or {undo} to run on this machine alone."
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_S) as connection:
            is_head = _speaks_grpc(connection)
    # A name that cannot be one on the internet is no OSError.
    except (OSError, ValueError) as error:
        reason = f"no answer within {TIMEOUT_S:.0f} s"
        if not isinstance(error, TimeoutError):
            reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(
            f"no Ray cluster answers at {address!r} ({origin}): {reason}. {end}"
        ) from error
    if not is_head:
        raise ClusterError(
            f"what answers at {address!r} ({origin}) is not the head of a Ray cluster. {_EXPECTED}, "
            f"which is the port of `ray start --head --port`. {end}"
        )


def _parse(address: str, origin: str) -> tuple[str, int]:
    scheme, mark, rest = address.partition("://")
    if mark:
        host = rest.partition("/")[0].rpartition(":")[0] or "10.0.0.1"
        hint = (
            f"A run can be submitted to a dashboard: `ensemble submit --address {address}`."
            if scheme in ("http", "https")
            else f"The protocol {scheme}:// is not spoken here; try {host}:6379."
        )
        raise ConfigError(
            f"cannot join a cluster at {address!r} ({origin}). {_EXPECTED}, without {scheme}://. "
            f"{hint}"
        )
    host, mark, port = address.rpartition(":")
    if not mark or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"cannot join a cluster at {address!r} ({origin}). {_EXPECTED}.")
    return host.strip("[]"), int(port)


def _speaks_grpc(connection: socket.socket) -> bool:
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        return True  # only Ray has the certificates
    try:
        connection.sendall(_HELLO)
        frame = b""
        while len(frame) < _FRAME_BYTES and (more := connection.recv(_FRAME_BYTES - len(frame))):
            frame += more
    except OSError:
        return False
    return len(frame) == _FRAME_BYTES and frame[_KIND] == _SETTINGS
