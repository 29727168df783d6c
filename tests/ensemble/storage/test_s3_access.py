"""How an S3 is reached: profiles, TLS, anonymous requests. The servers are real, on loopback sockets."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server, make_ssl_devcert

from ensemble.errors import ConfigError, TableError
from ensemble.storage.probe import probe

from ..conftest import MakeStore

# aiobotocore's connections are closed by their finaliser.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

RCLONE = {"checksums": "when_required"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate of localhost, and its key."""
    return make_ssl_devcert(str(tmp_path_factory.mktemp("tls") / "server"), host="localhost")


@pytest.fixture(scope="module")
def tls_port(certificate: tuple[str, str], aws_keys: None) -> Iterator[int]:
    app = DomainDispatcherApplication(create_backend_app)
    server = make_server("localhost", 0, app, threaded=True, ssl_context=certificate)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"https://localhost:{server.server_port}"
    boto3.client("s3", endpoint_url=endpoint, verify=certificate[0]).create_bucket(Bucket="tables")
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def user_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws_keys: None) -> Path:
    """A user's AWS files, with the only keys there are; the profile `wrong` has others."""
    keys = "[{}]\naws_access_key_id = testkey\naws_secret_access_key = {}\n"
    credentials, config = tmp_path / "credentials", tmp_path / "config"
    credentials.write_text(keys.format("mine", "testsecret") + keys.format("wrong", "canary"))
    config.write_text("[profile mine]\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return config


def test_keys_come_from_the_profile_that_is_named(
    rclone_port: int, make_store: MakeStore, user_files: Path
) -> None:
    with pytest.raises(ConfigError, match=r"the store refuses .*credentials.*or storage\.profile"):
        make_store(rclone_port, **RCLONE).replace("x", b"x")
    store = make_store(rclone_port, **RCLONE, profile="mine")
    store.replace("x", b"written under the profile")
    assert store.read("x") == b"written under the profile"
    with pytest.raises(ConfigError, match="the store refuses") as caught:
        make_store(rclone_port, **RCLONE, profile="wrong").read("x")
    assert "canary" not in str(caught.value)


def test_profile_that_is_not_there_is_one_message(make_store: MakeStore, user_files: Path) -> None:
    with pytest.raises(ConfigError, match=r"no profile 'mien' .*Known: mine, wrong\. Mend storage"):
        make_store(1, profile="mien")
    user_files.write_text("[profile")
    with pytest.raises(ConfigError, match=r"config.*Mend that file, or name another in AWS_CONFIG"):
        make_store(1, profile="mine")


def test_endpoint_and_ca_bundle_may_be_the_profiles(
    tls_port: int, certificate: tuple[str, str], make_store: MakeStore, user_files: Path
) -> None:
    user_files.write_text(
        f"[profile mine]\nendpoint_url = https://localhost:{tls_port}\nca_bundle = {certificate[0]}\n"
    )
    store = make_store(1, endpoint=None, profile="mine")
    assert all(finding.is_kept for finding in probe(store))


def test_unsigned_requests_are_refused_at_once_where_keys_are_needed(
    rclone_port: int, make_store: MakeStore
) -> None:
    store = make_store(rclone_port, **RCLONE, anonymous=True)
    with pytest.raises(ConfigError, match="the store refuses"):
        store.read("x")
    assert store.retries == 0


def test_public_data_is_read_without_keys(
    moto_port: int, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(moto_port)
    key = f"{store.url.removeprefix('s3://tables/')}/x"
    client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{moto_port}")
    client.put_object(Bucket="tables", Key=key, Body=b"public", ACL="public-read")
    store.replace("y", b"private")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    anyone = make_store(moto_port, anonymous=True)
    assert anyone.read("x") == b"public"
    with pytest.raises(TableError, match="the store refuses"):
        anyone.read("y")


def test_tls_needs_a_certificate_that_is_trusted(
    tls_port: int,
    certificate: tuple[str, str],
    make_store: MakeStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    endpoint = f"https://localhost:{tls_port}"
    stranger = make_store(1, endpoint=endpoint)
    with pytest.raises(ConfigError, match=r"certificate is not trusted .* Set AWS_CA_BUNDLE to"):
        stranger.read("x")
    assert stranger.retries == 0
    monkeypatch.setenv("AWS_CA_BUNDLE", certificate[0])
    assert all(finding.is_kept for finding in probe(make_store(1, endpoint=endpoint)))


def test_https_to_a_server_without_tls_is_said_at_once(
    moto_port: int, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    store = make_store(1, endpoint=f"https://127.0.0.1:{moto_port}")
    with pytest.raises(ConfigError, match=r"it does not speak TLS .* or begin it with http://"):
        store.read("x")
    assert store.retries == 0


@pytest.mark.parametrize("bundle", ["/no/such.pem", os.devnull])
def test_ca_bundle_that_cannot_be_read_is_named(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, bundle: str
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", bundle)
    with pytest.raises(ConfigError, match=rf"cannot read the CA bundle '{bundle}': .*PEM"):
        make_store(1, endpoint="https://127.0.0.1:1")
    make_store(1)  # without TLS nobody asks for it
