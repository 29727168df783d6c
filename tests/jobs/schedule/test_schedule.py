import ast
import shutil
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from ensemble.errors import ConfigError
from jobs.schedule import systemd
from jobs.schedule.nights import Nights
from jobs.schedule.schedule import clock_changes, plan_nights, schedule, write
from jobs.schedule.targets import Scheduler

from ...kubernetes_schemas import FOLDER, WHY_NOT, validator_of

_NAMES = ["nightly.yaml", 'it\'s 100% "mine" $HOME.yaml', "-x {{ds}}.yaml"]


@pytest.fixture(params=_NAMES)
def nights(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Nights:
    monkeypatch.chdir(tmp_path)
    Path(request.param).touch()
    return plan_nights(Path(request.param), "0 2 * * *", "Asia/Seoul", None, 4)


def _documents(nights: Nights, scheduler: Scheduler) -> list[dict[str, Any]]:
    (file,) = schedule(nights, scheduler)
    return list(yaml.safe_load_all(file.text))


def _program_instead(text: str, nights: Nights, program: Path) -> str:
    """The text with another program in the place of `ensemble`."""
    return text.replace(nights.words()[0], str(program))


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5])
def test_the_line_of_cron_runs_the_night_once_and_has_its_exit_code(
    nights: Nights, code: int
) -> None:
    program = Path("program")
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> arguments\necho said\nexit {code}\n')
    program.chmod(0o755)
    (file,) = schedule(nights, "cron")
    line = file.text.splitlines()[-1].removeprefix("0 2 * * * ").replace(r"\%", "%")
    result = subprocess.run(
        ["sh", "-c", _program_instead(line, nights, program.resolve())], check=False
    )
    assert result.returncode == code
    assert Path("arguments").read_text().splitlines() == ["nightly", str(nights.suite.resolve())]
    assert Path(f"{nights.name}.log").read_text() == "said\n"


def test_cron_does_not_start_a_night_while_one_runs(nights: Nights) -> None:
    (file,) = schedule(nights, "cron")
    lock = f"/tmp/{nights.name}.lock"
    line = file.text.splitlines()[-1].removeprefix("0 2 * * * ").replace(r"\%", "%")
    assert f"flock -n {lock} " in line
    held = subprocess.run(["flock", "-n", lock, "sh", "-c", line], check=False)
    assert held.returncode == 1
    assert not Path(f"{nights.name}.log").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_verifies_its_units(nights: Nights, tmp_path: Path) -> None:
    paths = write(schedule(nights, "systemd"), tmp_path / "units")
    result = subprocess.run(
        ["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_systemd_reads_each_word_as_it_is() -> None:
    assert systemd.quote('it\'s 100% "mine" $HOME\\') == '"it\'s 100%% \\"mine\\" $$HOME\\\\"'


@pytest.mark.parametrize("scheduler", ["kubernetes", "kuberay"])
def test_a_ray_job_runs_the_suite_and_only_a_night_without_a_verdict_fails(
    nights: Nights, scheduler: Scheduler, tmp_path: Path
) -> None:
    documents = _documents(nights, scheduler)
    if scheduler == "kubernetes":
        job = yaml.safe_load(documents[0]["data"]["rayjob.yaml"])["spec"]
        cron = documents[-1]["spec"]
        assert cron["concurrencyPolicy"] == "Forbid"
        assert cron["jobTemplate"]["spec"]["activeDeadlineSeconds"] > job["activeDeadlineSeconds"]
    else:
        cron = documents[0]["spec"]
        job = cron["jobTemplate"]
    assert (cron["schedule"], cron["timeZone"]) == ("0 2 * * *", "Asia/Seoul")
    assert job["activeDeadlineSeconds"] >= 4 * 3600
    program = tmp_path / "ensemble"
    for code, expected in [(0, 0), (1, 1), (2, 1), (3, 0), (4, 0), (5, 0), (137, 1)]:
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > arguments\nexit {code}\n')
        program.chmod(0o755)
        path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        result = subprocess.run(["bash", "-c", job["entrypoint"]], env=path, check=False)
        assert result.returncode == expected
        arguments = ["nightly", f"/etc/ensemble/{nights.suite.name}"]
        assert Path("arguments").read_text().splitlines() == arguments


def test_kubernetes_creates_the_ray_job_of_its_account(nights: Nights) -> None:
    config, account, role, binding, cron = _documents(nights, "kubernetes")
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == account["metadata"]["name"]
    assert binding["subjects"][0]["name"] == account["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    assert len(cron["metadata"]["name"]) <= 52  # Kubernetes adds eleven to the name of each Job


@pytest.mark.skipif(FOLDER is None, reason=WHY_NOT)
def test_the_operators_accept_their_documents(nights: Nights) -> None:
    (ray_cron_job,) = _documents(nights, "kuberay")
    job = yaml.safe_load(_documents(nights, "kubernetes")[0]["data"]["rayjob.yaml"])
    (workflow,) = _documents(nights, "argo")
    for document, validator in (
        (ray_cron_job, validator_of("ray.io_raycronjobs")),
        (job, validator_of("ray.io_rayjobs")),
        (workflow, validator_of("argoproj.io_cronworkflows", "v1alpha1")),
    ):
        assert [error.message for error in validator.iter_errors(document)] == []
        assert not validator.is_valid({**document, "spec": {**document["spec"], "misspelt": 1}})


def test_argo_waits_for_a_night_on_a_cluster_that_stays(nights: Nights) -> None:
    (document,) = _documents(nights, "argo")
    (template,) = document["spec"]["workflowSpec"]["templates"]
    suite = f"/etc/ensemble/{nights.suite.name}"
    assert template["container"]["command"][:3] == ["ensemble", "nightly", suite]
    assert template["container"]["command"][-1] == "--wait"
    assert document["spec"]["concurrencyPolicy"] == "Forbid"


def test_the_dag_of_airflow_runs_the_command(nights: Nights) -> None:
    (file,) = schedule(nights, "airflow")
    calls = {
        ast.unparse(node.func): {each.arg: each.value for each in node.keywords}
        for node in ast.walk(ast.parse(file.text))
        if isinstance(node, ast.Call)
    }
    assert ast.literal_eval(calls["DAG"]["max_active_runs"]) == 1
    command = ast.literal_eval(calls["BashOperator"]["bash_command"])
    # Airflow renders the command as a template.
    from jinja2 import Template

    rendered = Template(command).render(ds="2026-01-01")
    program = Path("program")
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\n')
    program.chmod(0o755)
    subprocess.run(
        ["bash", "-c", _program_instead(rendered, nights, program.resolve())], check=True
    )
    assert Path("arguments").read_text().splitlines() == ["nightly", str(nights.suite.resolve())]


def test_github_starts_beside_the_full_hour_and_one_night_at_once(nights: Nights) -> None:
    (document,) = _documents(nights, "github")
    (entry,) = document["on"]["schedule"]
    assert entry == {"cron": "17 2 * * *", "timezone": "Asia/Seoul"}
    assert "workflow_dispatch" in document["on"]
    assert document["concurrency"]["cancel-in-progress"] is False
    command = document["jobs"]["night"]["steps"][-1]["run"]
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    )
    assert words.stdout.splitlines() == ["ensemble", "nightly", nights.suite.name]


def test_github_runs_only_what_is_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nightly.yaml").touch()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    nights = plan_nights(Path("../nightly.yaml"), "0 2 * * *", "UTC", None, 4)
    with pytest.raises(ConfigError, match="not below"):
        schedule(nights, "github")


@pytest.mark.parametrize("scheduler", get_args(Scheduler))
def test_every_file_says_whose_nights_it_starts(nights: Nights, scheduler: Scheduler) -> None:
    assert str(nights.suite) in schedule(nights, scheduler)[0].text.splitlines()[0]


@pytest.mark.parametrize("scheduler", ["kubernetes", "kuberay"])
def test_a_cluster_a_night_has_no_address(tmp_path: Path, scheduler: Scheduler) -> None:
    suite = tmp_path / "nightly.yaml"
    suite.touch()
    nights = plan_nights(suite, "0 2 * * *", "UTC", "http://head:8265", 4)
    with pytest.raises(ConfigError, match="Leave --address out"):
        schedule(nights, scheduler)


def test_a_suite_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no suite .*missing\.yaml"):
        plan_nights(tmp_path / "missing.yaml", "0 2 * * *", "UTC", None, 4)


def test_nights_on_which_the_clock_is_changed_are_told(tmp_path: Path) -> None:
    (tmp_path / "nightly.yaml").touch()
    berlin = plan_nights(tmp_path / "nightly.yaml", "30 2 * * *", "Europe/Berlin", None, 4)
    assert "2 nights a year" in str(clock_changes(berlin))
    seoul = plan_nights(tmp_path / "nightly.yaml", "30 2 * * *", "Asia/Seoul", None, 4)
    assert clock_changes(seoul) is None
