"""Pages and messages: escaped whatever names say, readable by machines, and sent without failing the night."""

import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from xml.etree import ElementTree

import pyarrow.parquet as pq
import pytest

from ensemble.storage.local_store import LocalStore
from jobs.nightly.history import INDEX, JUNIT, MARKDOWN, TABLE_FILE

from .worlds import Nights, World

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def nights(tmp_path: Path) -> Nights:
    """Two quiet nights and a regression, with a class that is called like a script."""
    nights = Nights(tmp_path / "nightly", World(classes=(SCRIPT, *"123456789")))
    nights.row["owner"] = f"{SCRIPT} | team"
    for _ in range(2):
        nights.run()
    nights.world.change("a", shift=3.0)
    nights.run()
    return nights


def test_pages_hold_no_script_and_load_nothing(nights: Nights) -> None:
    for name in (INDEX, "nights/000003.html"):
        page = (nights.folder / name).read_text()
        assert "<script" not in page
        assert "http://" not in page.replace("http://www.w3.org", "")
        assert "https://" not in page
        assert '<meta name="viewport"' in page
    assert "&lt;script&gt;" in (nights.folder / "nights/000003.html").read_text()


def test_the_index_shows_the_alert_the_trend_and_every_night(nights: Nights) -> None:
    page = (nights.folder / INDEX).read_text()
    assert "1 alert on the night of 2026-11-03." in page
    assert page.count('class="night regressed"') >= 1
    assert page.count("nights/00000") == 3


def test_the_page_of_a_night_shows_blame_and_pictures(nights: Nights) -> None:
    page = (nights.folder / "nights/000003.html").read_text()
    assert "preprocessing.mean" in page
    assert page.count("data:image/png;base64,") == 60


def test_junit_counts_the_failure(nights: Nights) -> None:
    suite = ElementTree.fromstring((nights.folder / JUNIT).read_bytes())
    assert suite.get("failures") == "2"
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["top1_error against accepted", "member_error of a against accepted"]


def test_markdown_escapes_names(nights: Nights) -> None:
    text = (nights.folder / MARKDOWN).read_text()
    assert "<script>" not in text
    assert "\\| team" in text
    assert "digits/top1\\_error open since 2026-11-03" in text


def test_the_parquet_table_has_a_line_a_figure(nights: Nights) -> None:
    rows = pq.read_table(nights.folder / TABLE_FILE).to_pylist()
    assert [(r["date"], r["verdict"]) for r in rows if r["metric"] == "top1_error"] == [
        (date(2026, 11, 1), None),
        (date(2026, 11, 2), "identical"),
        (date(2026, 11, 3), "regressed"),
    ]


@pytest.fixture
def service() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A service on loopback, and what it was told."""
    told: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            told.append((self.path, self.rfile.read(length)))
            self._answer()

        def do_GET(self) -> None:
            told.append((self.path, b""))
            self._answer()

        def _answer(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", told
    server.shutdown()
    thread.join()
    server.server_close()


def test_one_message_opens_an_alert_and_one_resolves_it(
    tmp_path: Path, service: tuple[str, list[tuple[str, bytes]]]
) -> None:
    url, told = service
    nights = Nights(tmp_path / "nightly")
    nights.settings |= {"webhook": f"{url}/hook", "heartbeat": f"{url}/alive"}
    nights.row["owner"] = "<b>team</b>"
    nights.run()
    good = nights.world.models
    nights.world.change("a", shift=3.0)
    for _ in range(3):
        nights.run()
    nights.world.models = good
    nights.run()
    assert [path for path, _ in told].count("/alive") == 5
    opened, resolved = (body.decode() for path, body in told if path == "/hook")
    assert '"text": "suite: ALERT digits/top1_error open since 2026-11-02' in opened
    assert "&lt;b&gt;team" in opened
    assert "resolved digits/top1_error" in resolved


def test_a_dead_webhook_never_fails_the_night(tmp_path: Path) -> None:
    nights = Nights(tmp_path / "nightly")
    nights.settings |= {"webhook": "http://127.0.0.1:9/hook", "heartbeat": "http://127.0.0.1:9/"}
    nights.run()
    nights.world.change("a", shift=3.0)
    assert nights.run()[1] == 3
    assert sum("does not answer" in line for line in nights.lines) == 3
    assert LocalStore(nights.folder).read("records/000002.json")
