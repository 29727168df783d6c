"""The schedulers that a file is written for. Alone, so that the command is parsed without the rest."""

from typing import Literal

Scheduler = Literal["cron", "systemd", "kubernetes", "kuberay", "argo", "airflow", "github"]
