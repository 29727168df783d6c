"""The README of cluster: its table of decisions is what the code decides, and the files it names are there."""

import os
import re
from pathlib import Path

from cluster.scheduling.failures import LIMITS, MAX_QUARANTINED, Cause, Decision, Failure, decide

ROOT = Path(__file__).parents[2]
README = ROOT / "cluster" / "README.md"
TABLE = re.compile(r"(<!-- decisions: .*?-->\n).*?(<!-- end of decisions -->)", re.DOTALL)
ROLES = (
    "Pool",
    "Dispatcher",
    "WorkQueue",
    "HostGroup",
    "HostHandle",
    "PlacementGroups",
    "Shards",
    "ShardWindow",
    "Host",
    "SearchHandle",
)


def _row(cause: Cause) -> str:
    limit = LIMITS[cause]
    first = decide(Failure(cause, 1)).value if limit > 1 else ""
    block = decide(Failure(cause, limit, can_be_quarantined=True)).value
    training = decide(Failure(cause, limit)).value
    return f"| {cause.value} | {first} | {limit} | {block} | {training} |"


def _table() -> str:
    head = (
        "| cause | before the last attempt | attempts | then, for a block | then, for a training |"
    )
    return "\n".join([head, "|---|---|---|---|---|", *map(_row, Cause), ""])


def test_the_table_of_decisions_is_what_the_code_decides() -> None:
    expected = TABLE.sub(lambda match: match[1] + _table() + match[2], README.read_text())
    if os.environ.get("UPDATE_README"):
        README.write_text(expected)
    assert README.read_text() == expected


def test_a_cause_has_one_decision_before_its_last_attempt() -> None:
    for cause, limit in LIMITS.items():
        decisions = {
            decide(Failure(cause, attempts, is_block))
            for attempts in range(1, limit)
            for is_block in (False, True)
        }
        assert len(decisions) <= 1, cause


def test_the_number_of_quarantined_blocks_that_a_member_may_have_is_stated() -> None:
    (number,) = re.findall(r"After (\d+)\nquarantined blocks of one member", README.read_text())
    assert int(number) == MAX_QUARANTINED
    failure = Failure(Cause.WORKER_LOST, LIMITS[Cause.WORKER_LOST], True, MAX_QUARANTINED)
    assert decide(failure) is Decision.RAISE


def test_every_role_that_is_drawn_is_a_class() -> None:
    code = "\n".join(path.read_text() for path in (ROOT / "cluster").rglob("*.py"))
    drawing = README.read_text().split("## What happens")[0]
    for role in ROLES:
        assert re.search(rf"^class {role}\b", code, re.MULTILINE), role
        assert re.search(rf"\b{role}\b", drawing), role


def test_every_file_that_a_command_takes_is_there() -> None:
    files = re.findall(r"(?<=[ /])(cluster(?:/\S+)?\.yaml)", README.read_text())
    assert {"cluster.yaml", "cluster/deploy/kuberay/rayjob.yaml"} <= set(files)
    assert [file for file in files if not (ROOT / file).exists()] == []
