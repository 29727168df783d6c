"""A DAG for Airflow."""

import shlex
from pathlib import Path

from jobs.schedule.nights import Nights, ScheduleFile, comment


def render(nights: Nights) -> list[ScheduleFile]:
    """Write a DAG of one task, which runs the command and has its exit code.

    Without retries: Airflow cannot tell a night that was judged from one that failed. A task that is cleared
    goes on where its night stopped.
    """
    name = nights.name.replace("-", "_")
    folder = shlex.quote(str(Path.cwd()))
    # Airflow would read braces as a template, and a command that ends in .sh as the name of one.
    command = f"cd {folder} && {shlex.join(nights.command())} ".replace("{", "{{ '{' }}")
    head = comment(
        f"The nights of {nights.suite}, for Airflow 3 with apache-airflow-providers-standard. Copy this file to",
        "the folder of the DAGs; the paths are those of the machine that runs the task.",
    )
    text = f"""{head}
from datetime import datetime, timedelta

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG
from airflow.timetables.trigger import CronTriggerTimetable

with DAG(
    dag_id={name!r},
    schedule=CronTriggerTimetable({nights.time.fields!r}, timezone={nights.time.timezone!r}),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours={nights.timeout_hours}),
):
    BashOperator(
        task_id="night",
        bash_command={command!r},
        retries=0,
        append_env=True,
    )
"""
    return [ScheduleFile(f"{name}.py", text)]
