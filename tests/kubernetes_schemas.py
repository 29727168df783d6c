"""Kubernetes' own schemas as validators, from a folder that ENSEMBLE_KUBERAY_CRDS names."""

import json
import os
from pathlib import Path
from typing import Any

import jsonschema
import yaml

# A folder with ray.io_rayclusters.yaml, ray.io_rayjobs.yaml and ray.io_raycronjobs.yaml of a KubeRay release,
# and argoproj.io_cronworkflows.yaml of Argo Workflows.
FOLDER = os.environ.get("ENSEMBLE_KUBERAY_CRDS")
WHY_NOT = "these definitions are in no registry; name a folder with ENSEMBLE_KUBERAY_CRDS"


def validator_of(definition: str, version: str = "v1") -> jsonschema.Draft7Validator:
    """Read the schema of a custom resource, as strict as the API server is when asked to."""
    text = (Path(FOLDER or "") / f"{definition}.yaml").read_text()
    versions = yaml.load(text, Loader=yaml.CSafeLoader)["spec"]["versions"]
    schema = next(v["schema"]["openAPIV3Schema"] for v in versions if v["name"] == version)
    return jsonschema.Draft7Validator(_strict(json.loads(json.dumps(schema))))


def _strict(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
    if schema.get("type") == "object" and "properties" in schema:
        schema.setdefault("additionalProperties", False)
    return schema
