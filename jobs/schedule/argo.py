"""A CronWorkflow for Argo Workflows."""

import shlex

from jobs.schedule.kubernetes import dump
from jobs.schedule.nights import (
    FINAL_CODES,
    RETRIES,
    RETRY_AFTER_S,
    Nights,
    ScheduleFile,
    comment,
    on_cluster,
)

_FOLDER = "/etc/ensemble"


def render(nights: Nights) -> list[ScheduleFile]:
    """Write a CronWorkflow of one step that runs the night on a cluster that stays, and waits for it."""
    name = nights.name
    suite = shlex.quote(f"--from-file={nights.suite.name}={nights.suite}")
    head = comment(
        f"The nights of {nights.suite}, for Argo Workflows 3.6 or newer.",
        f"kubectl create configmap ensemble-config {suite}",
        f"kubectl apply -f {name}.yaml",
        "FILL the image, made from cluster/deploy/Dockerfile, and the address of the cluster's dashboard.",
    )
    address = nights.address or "http://ensemble-head-svc:8265"
    words = nights.words(f"{_FOLDER}/{nights.suite.name}", "ensemble")
    token = {"secretKeyRef": {"name": "ensemble", "key": "auth_token"}}
    night = {
        "name": "night",
        "container": {
            "image": "REGISTRY/ensemble:0.1.0",  # FILL
            "command": [*words, *on_cluster(address)],
            "env": [{"name": "RAY_AUTH_TOKEN", "valueFrom": token}],
            "volumeMounts": [{"name": "config", "mountPath": _FOLDER}],
        },
        # A judged night ends with 0, 3, 4 or 5; only one that failed or was killed is started again.
        "retryStrategy": {
            "limit": RETRIES,
            "expression": f"lastRetry.status == 'Error' or asInt(lastRetry.exitCode) not in {list(FINAL_CODES)}",
            "backoff": {"duration": str(RETRY_AFTER_S)},
        },
    }
    document = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "CronWorkflow",
        "metadata": {"name": name},
        "spec": {
            "schedules": [nights.time.fields],
            "timezone": nights.time.timezone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 7,
            "failedJobsHistoryLimit": 7,
            "workflowSpec": {
                "entrypoint": "night",
                "activeDeadlineSeconds": nights.timeout_s,
                "volumes": [{"name": "config", "configMap": {"name": "ensemble-config"}}],
                "templates": [night],
            },
        },
    }
    return [ScheduleFile(f"{name}.yaml", head + dump(document))]
