"""A CronJob that creates a RayJob a night; and the RayCronJob of KubeRay, which is alpha."""

import shlex
from pathlib import Path
from typing import Any

import yaml

from ensemble.errors import ConfigError
from jobs.schedule.nights import JUDGED_CODES, RETRIES, Nights, ScheduleFile, comment

# The run with a cluster of its own, which is gone when the run has ended.
RAY_JOB = Path(__file__).parents[2] / "cluster" / "deploy" / "kuberay" / "rayjob.yaml"

_FOLDER, _CONFIG_MAP = "/etc/ensemble", "ensemble-config"
_API = "ray.io/v1"

# As long as a cluster may take to be there and to go away, beside the night itself.
_CLUSTER_S = 2400
_LATE_S = 3600

# The RayJob is called as the Job of this night is: a pod that is started again finds it.
_CREATE_AND_WAIT = f"""\
set -eu
sed "s/NIGHT/$NIGHT/" {_FOLDER}/rayjob.yaml | kubectl create -f - || kubectl get rayjob "$NIGHT"
while :; do
  state=$(kubectl get rayjob "$NIGHT" -o jsonpath='{{.status.jobDeploymentStatus}}')
  case $state in
    Complete) echo "night $NIGHT: judged"; exit 0 ;;
    Failed) kubectl get rayjob "$NIGHT" -o jsonpath='{{.status.message}}'; exit 1 ;;
  esac
  sleep 15
done
"""


def render(nights: Nights) -> list[ScheduleFile]:
    """Write a CronJob that forbids two nights at once, and the account that lets it create RayJobs.

    Raises:
        ConfigError: The nights have the address of a cluster.
    """
    name = nights.name
    labels = {"app.kubernetes.io/name": "ensemble", "app.kubernetes.io/instance": name}
    # FILL marks what only the reader knows, as in cluster/deploy/kuberay.
    head = comment(
        f"The nights of {nights.suite}: a CronJob creates a RayJob with a cluster of its own.",
        *_config_map_lines(nights),
        f"kubectl apply -f {name}.yaml",
        f"FILL the image with kubectl and sh below, and what is marked FILL in {RAY_JOB.name} of",
        "cluster/deploy/kuberay. A night that was judged completes, whatever the verdict: the page and the alerts",
        "of the suite tell it, and only a night without a verdict is started again.",
        "With Kueue, add the label kueue.x-k8s.io/queue-name to the RayJob.",
    )
    manifest = {**_ray_job(nights), "metadata": {"name": "NIGHT", "labels": labels}}
    parts: list[dict[str, Any]] = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "labels": labels},
            "data": {"rayjob.yaml": dump(manifest)},
        },
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "labels": labels},
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": name, "labels": labels},
            "rules": [
                {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": name, "labels": labels},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name}],
        },
        _cron_job(nights, labels),
    ]
    return [ScheduleFile(f"{name}.yaml", head + "---\n".join(map(dump, parts)))]


def _cron_job(nights: Nights, labels: dict[str, str]) -> dict[str, Any]:
    name = nights.name
    job_name = "metadata.labels['batch.kubernetes.io/job-name']"
    container = {
        "name": "create",
        "image": "REGISTRY/kubectl:1.34",  # FILL
        "command": ["sh", "-c", _CREATE_AND_WAIT],
        "env": [{"name": "NIGHT", "valueFrom": {"fieldRef": {"fieldPath": job_name}}}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [{"name": "rayjob", "mountPath": _FOLDER}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "schedule": nights.time.fields,
            "timeZone": nights.time.timezone,
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": _LATE_S,
            "successfulJobsHistoryLimit": 7,
            "failedJobsHistoryLimit": 7,
            "jobTemplate": {
                "spec": {
                    "backoffLimit": RETRIES,
                    "activeDeadlineSeconds": nights.timeout_s + 2 * _CLUSTER_S,
                    "template": {
                        "metadata": {"labels": labels},
                        "spec": {
                            "serviceAccountName": name,
                            "restartPolicy": "Never",
                            "containers": [container],
                            "volumes": [{"name": "rayjob", "configMap": {"name": name}}],
                        },
                    },
                }
            },
        },
    }


def render_ray_cron_job(nights: Nights) -> list[ScheduleFile]:
    """Write a RayCronJob, and what KubeRay 1.7 has not yet.

    Raises:
        ConfigError: The nights have the address of a cluster.
    """
    name = nights.name
    head = comment(
        f"The nights of {nights.suite}: KubeRay's own RayCronJob, which is ALPHA and off by default in 1.7.",
        "It needs the operator's feature gate RayCronJob=true. What it lacks, and --to kubernetes has: no",
        "concurrencyPolicy (a night that is late overlaps the next; the suite's lease lets only one of them",
        "write), no startingDeadlineSeconds, no limit of how many RayJobs are kept (`kubectl get rayjobs` lists",
        "them).",
        *_config_map_lines(nights),
        f"kubectl apply -f {name}.yaml",
    )
    document = {
        "apiVersion": _API,
        "kind": "RayCronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": nights.time.fields,
            "timeZone": nights.time.timezone,
            "jobTemplate": _ray_job(nights)["spec"],
        },
    }
    return [ScheduleFile(f"{name}.yaml", head + dump(document))]


def _ray_job(nights: Nights) -> dict[str, Any]:
    """Make the RayJob of a run one of a night.

    Raises:
        ConfigError: The nights have the address of a cluster.
    """
    job: dict[str, Any] = yaml.safe_load(RAY_JOB.read_text())
    # Inside the cluster that the RayJob makes, which needs no address.
    if nights.address is not None:
        raise ConfigError(
            f"--address is {nights.address!r}, and here each night has a cluster of its own. Leave --address "
            "out, or use --to argo, whose nights run on a cluster that stays."
        )
    words = nights.words(f"{_FOLDER}/{nights.suite.name}", "ensemble")
    judged = "|".join(map(str, JUDGED_CODES))
    job["spec"] |= {
        # Ray calls a job failed that ends with another code than 0, and KubeRay would start it again.
        "entrypoint": f"{shlex.join(words)} || case $? in {judged}) ;; *) exit 1 ;; esac",
        "backoffLimit": RETRIES,
        "activeDeadlineSeconds": nights.timeout_s + _CLUSTER_S,
    }
    return job


def _config_map_lines(nights: Nights) -> tuple[str, ...]:
    suite = shlex.quote(f"--from-file={nights.suite.name}={nights.suite}")
    return (
        f"kubectl create configmap {_CONFIG_MAP} {suite}",
        "kubectl apply -f cluster/deploy/kuberay/runs.yaml",
    )


def dump(document: object) -> str:
    """Write a document as YAML, in its own order, with lines of text as blocks."""
    return yaml.dump(document, Dumper=_Blocks, sort_keys=False, width=1000, allow_unicode=True)


class _Blocks(yaml.SafeDumper):
    """Writes text of several lines as a block that people can read, and no value by reference."""

    def ignore_aliases(self, data: object) -> bool:
        """Write what stands twice twice."""
        return True


def _as_block(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Blocks.add_representer(str, _as_block)
