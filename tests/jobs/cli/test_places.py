"""Folders and places on S3 that verbs are given: what is none is one message, and the doctor examines them."""

import json
from pathlib import Path

import pytest

from ..conftest import Command


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["table", "show", "/no/such/run"],
            "is not the folder of a run: it has no config.json, and no table",
        ),
        (
            ["table", "export", ".", "--out", "x", "--format", "xls"],
            "no format 'xls'. Known: npz, parquet",
        ),
        (["resume", "/no/such/run"], "'/no/such/run' is not the folder of a run"),
        (["doctor", "gs://x"], "cannot keep a table at 'gs://x'"),
        (["doctor", __file__], "is a file; expected a folder or s3://bucket/prefix"),
        (
            ["resume", "s3://x/y", "prfile=z"],
            "cannot read 'prfile=z'; expected settings of storage",
        ),
        (["resume", "s3://x/y", "profile=z"], "there is no profile 'z' in the AWS configuration"),
        (["doctor", "s3://x/y", "profile=z"], "there is no profile 'z' in the AWS configuration"),
    ],
)
def test_wrong_places_and_words_are_one_message_and_exit_code_2(
    command_here: Command, words: list[str], message: str
) -> None:
    done = command_here(*words)
    assert done.returncode == 2
    assert message in done.stderr


def test_doctor_finds_a_folder_fit(command_here: Command, tmp_path: Path) -> None:
    done = command_here("doctor", tmp_path)
    assert (done.returncode, f"{tmp_path}: fit" in done.stdout) == (0, True)
    assert json.loads(command_here("doctor", tmp_path, "--json").stdout)["is_fit"]
