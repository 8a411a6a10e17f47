"""The KubeRay files: keys that the resources have, one cluster in both, and what Kubernetes would let pass; each check is shown to bite."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from cluster.spot_drain import main

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "cluster/kuberay"
CLUSTER = yaml.safe_load((FOLDER / "raycluster.yaml").read_text())
JOB = yaml.safe_load((FOLDER / "rayjob.yaml").read_text())

ANY = None
"""Any value: keys that users choose, or that another schema names."""
RESOURCES = {"requests": ANY, "limits": ANY}
CONTAINER = {
    **dict.fromkeys(("name", "image", "imagePullPolicy", "command", "args", "workingDir")),
    "securityContext": dict.fromkeys(("allowPrivilegeEscalation", "capabilities", "runAsUser", "runAsNonRoot", "readOnlyRootFilesystem")),
    "resources": RESOURCES,
    "env": [{"name": ANY, "value": ANY, "valueFrom": {"secretKeyRef": {"name": ANY, "key": ANY}}}],
    "lifecycle": {"preStop": {"exec": {"command": ANY}}},
    "ports": [{"name": ANY, "containerPort": ANY}],
    "volumeMounts": [{"name": ANY, "mountPath": ANY, "readOnly": ANY}],
}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [dict.fromkeys(("key", "operator", "values"))]}]
        }
    }
}
POD = {
    "metadata": {"labels": ANY, "annotations": ANY},
    "spec": {
        **dict.fromkeys(("serviceAccountName", "restartPolicy", "terminationGracePeriodSeconds", "nodeSelector", "priorityClassName")),
        "securityContext": dict.fromkeys(("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup")),
        "tolerations": [dict.fromkeys(("key", "operator", "value", "effect", "tolerationSeconds"))],
        "affinity": AFFINITY,
        "containers": [CONTAINER],
        "volumes": [{"name": ANY, "emptyDir": {"medium": ANY, "sizeLimit": ANY}, "configMap": {"name": ANY}}],
    },
}
SPEC = {
    **dict.fromkeys(("rayVersion", "enableInTreeAutoscaling", "suspend", "headServiceAnnotations")),
    "authOptions": {"mode": ANY, "secretName": ANY},
    "autoscalerOptions": {
        **dict.fromkeys(("version", "upscalingMode", "idleTimeoutSeconds", "image", "imagePullPolicy", "env", "envFrom", "volumeMounts")),
        "resources": RESOURCES,
    },
    "headGroupSpec": {**dict.fromkeys(("serviceType", "headService", "enableIngress", "rayStartParams")), "template": POD},
    "workerGroupSpecs": [
        {
            **dict.fromkeys(("groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "numOfHosts", "rayStartParams")),
            "template": POD,
        }
    ],
}
METADATA = dict.fromkeys(("name", "namespace", "labels", "annotations"))
SCHEMAS = {
    "RayCluster": {"apiVersion": ANY, "kind": ANY, "metadata": METADATA, "spec": SPEC},
    "RayJob": {
        **{"apiVersion": ANY, "kind": ANY, "metadata": METADATA},
        "spec": {
            **dict.fromkeys(("entrypoint", "backoffLimit", "activeDeadlineSeconds", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished")),
            **dict.fromkeys(("submissionMode", "runtimeEnvYAML", "jobId", "metadata", "suspend", "entrypointNumCpus")),
            "rayClusterSpec": SPEC,
        },
    },
}
"""Keys of KubeRay 1.6's resources and of Kubernetes' pods, as far as these files may use them."""

Resource = dict[str, Any]


def spec_of(resource: Resource) -> dict[str, Any]:
    return resource["spec"]["rayClusterSpec"] if resource["kind"] == "RayJob" else resource["spec"]


def groups(resource: Resource) -> list[dict[str, Any]]:
    return [spec_of(resource)["headGroupSpec"], *spec_of(resource)["workerGroupSpecs"]]


def containers(resource: Resource) -> list[dict[str, Any]]:
    return [container for group in groups(resource) for container in group["template"]["spec"]["containers"]]


def check_keys(resource: Resource) -> None:
    def walk(value: Any, schema: Any, where: str) -> None:
        if schema is ANY:
            return
        if isinstance(schema, list):
            assert isinstance(value, list), f"{where}: expected a list"
            for i, item in enumerate(value):
                walk(item, schema[0], f"{where}[{i}]")
            return
        assert isinstance(value, dict), f"{where}: expected a mapping"
        for key, item in value.items():
            assert key in schema, f"{where}: no field {key}"
            walk(item, schema[key], f"{where}.{key}")

    assert resource["apiVersion"] == "ray.io/v1"
    walk(resource, SCHEMAS[resource["kind"]], resource["kind"])


def check_versions(resource: Resource) -> None:
    assert spec_of(resource)["rayVersion"] == ray.__version__
    version = re.search(r'^version = "(.+)"', (REPO / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    for container in containers(resource):
        assert container["image"] == f"REGISTRY/pseudogt:{version[1]}-ray-{ray.__version__}", container["image"]


def check_scaling(resource: Resource) -> None:
    spec = spec_of(resource)
    assert spec["enableInTreeAutoscaling"] is True and spec["autoscalerOptions"]["version"] == "v2"
    names = [group["groupName"] for group in spec["workerGroupSpecs"]]
    assert len(names) == len(set(names))
    for group in spec["workerGroupSpecs"]:
        assert 0 == group["minReplicas"] <= group["replicas"] <= group["maxReplicas"], f"{group['groupName']}: replicas out of bounds"
    for group in groups(resource):
        assert group["template"]["spec"]["restartPolicy"] == "Never", "the second autoscaler replaces pods, it does not restart them"


def check_ray_params(resource: Resource) -> None:
    for group in groups(resource):
        params = group["rayStartParams"]
        assert all(isinstance(v, str) for v in params.values()), "ray's parameters are strings"
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        offered = json.loads(json.loads(params["resources"])) if "resources" in params else {}
        if group is groups(resource)[0]:
            assert params["num-cpus"] == "0" and not offered, "tasks would land on the head"
        else:
            assert ("nvidia.com/gpu" in limits) != (offered == {"cpu_stage": int(limits["cpu"])}), "neither a GPU nor a CPU worker, or both"
        (shm,) = [v["emptyDir"] for v in group["template"]["spec"]["volumes"] if v["name"] == "shm"]
        assert shm["medium"] == "Memory" and int(params["object-store-memory"]) < gib(shm["sizeLimit"]), "the object store does not fit"
        assert gib(shm["sizeLimit"]) < gib(limits["memory"]) / 2, "shared memory counts as the container's"


def gib(quantity: str) -> int:
    return int(quantity.removesuffix("Gi")) << 30


def check_resources(resource: Resource) -> None:
    for container in containers(resource):
        resources = container["resources"]
        assert resources["requests"] == resources["limits"], f"{container['name']}: requests are not limits"
        assert {"cpu", "memory"} <= resources["limits"].keys()
        assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]


def check_token(resource: Resource) -> None:
    auth = spec_of(resource)["authOptions"]
    assert auth["mode"] == "token"
    for container in containers(resource):
        env = {e["name"]: e for e in container["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        token = env["RAY_AUTH_TOKEN"]
        assert token.get("valueFrom") == {"secretKeyRef": {"name": auth["secretName"], "key": "auth_token"}} and "value" not in token


def check_rights(resource: Resource) -> None:
    for group in groups(resource):
        pod = group["template"]["spec"]
        assert pod["serviceAccountName"] == "pseudogt", "the bucket is open to this account alone"
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        mounted = {m["name"] for c in pod["containers"] for m in c["volumeMounts"]}
        assert mounted == {v["name"] for v in pod["volumes"]}, "volumes and mounts differ"


def check_spot(resource: Resource) -> None:
    """Workers run on spot nodes and drain before they go; the head runs elsewhere."""
    for group in spec_of(resource)["workerGroupSpecs"]:
        pod = group["template"]["spec"]
        keys = {toleration["key"] for toleration in pod["tolerations"]}
        assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= keys, f"{group['groupName']}: would not be scheduled"
        chosen = expressions(pod)
        assert chosen and all(e["operator"] == "In" for e in chosen), f"{group['groupName']}: not bound to spot nodes"
        (container,) = pod["containers"]
        command = container["lifecycle"]["preStop"]["exec"]["command"]
        assert command[:4] == ["python", "-m", "cluster.spot_drain", "--now"]
        assert float(command[4]) < pod["terminationGracePeriodSeconds"], "killed before it is drained"
    avoided = {
        e["key"] for e in expressions(spec_of(resource)["headGroupSpec"]["template"]["spec"]) if e["operator"] in ("NotIn", "DoesNotExist")
    }
    assert avoided == {e["key"] for e in chosen}, "the head may land on a spot node"


def expressions(pod: dict[str, Any]) -> list[dict[str, Any]]:
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    return [e for term in required["nodeSelectorTerms"] for e in term["matchExpressions"]]


CHECKS = [check_keys, check_versions, check_scaling, check_ray_params, check_resources, check_token, check_rights, check_spot]


@pytest.mark.parametrize("resource", [CLUSTER, JOB], ids=["raycluster", "rayjob"])
@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
def test_the_resources(resource: Resource, check: Callable[[Resource], None]) -> None:
    check(resource)


def put(path: str, value: Any) -> Resource:
    """A RayCluster with another value at a path below its spec; None removes it."""
    damaged = json.loads(json.dumps(CLUSTER))
    *parents, last = path.split(".")
    at = damaged["spec"]
    for key in parents:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is None:
        del at[last]
    else:
        at[last] = value
    return damaged


GROUP = "workerGroupSpecs.0"
TEMPLATE = f"{GROUP}.template.spec"
CONTAINER_0 = f"{TEMPLATE}.containers.0"
DAMAGES = [
    (check_keys, put("rayVersoin", "2.60.0")),
    (check_keys, put(f"{GROUP}.maxReplica", 3)),
    (check_keys, put(f"{CONTAINER_0}.resource", {})),
    (check_keys, {**CLUSTER, "apiVersion": "ray.io/v1alpha1"}),
    (check_versions, put("rayVersion", "2.59.0")),
    (check_versions, put(f"{CONTAINER_0}.image", "REGISTRY/pseudogt:latest")),
    (check_scaling, put(f"{GROUP}.replicas", 99)),
    (check_scaling, put(f"{GROUP}.minReplicas", 1)),
    (check_scaling, put("enableInTreeAutoscaling", False)),
    (check_scaling, put(f"{GROUP}.groupName", "cpu-spot")),
    (check_scaling, put(f"{TEMPLATE}.restartPolicy", "Always")),
    (check_ray_params, put("headGroupSpec.rayStartParams.num-cpus", "4")),
    (check_ray_params, put(f"{GROUP}.rayStartParams.object-store-memory", "99000000000")),
    (check_ray_params, put(f"{GROUP}.rayStartParams.num-gpus", 1)),
    (check_ray_params, put("workerGroupSpecs.1.rayStartParams.resources", '"{\\"cpu_stage\\": 1}"')),
    (check_resources, put(f"{CONTAINER_0}.resources.limits.cpu", "99")),
    (check_token, put(f"{CONTAINER_0}.env", [{"name": "RAY_AUTH_MODE", "value": "token"}, {"name": "RAY_AUTH_TOKEN", "value": "abc"}])),
    (check_token, put("authOptions.mode", "disabled")),
    (check_token, put("authOptions.secretName", "another")),
    (check_rights, put(f"{TEMPLATE}.serviceAccountName", "default")),
    (check_rights, put(f"{TEMPLATE}.securityContext.runAsNonRoot", False)),
    (check_rights, put(f"{CONTAINER_0}.securityContext.allowPrivilegeEscalation", True)),
    (check_spot, put(f"{TEMPLATE}.terminationGracePeriodSeconds", 10)),
    (check_spot, put(f"{TEMPLATE}.tolerations", [])),
    (
        check_spot,
        put(
            "headGroupSpec.template.spec.affinity.nodeAffinity",
            CLUSTER["spec"]["workerGroupSpecs"][0]["template"]["spec"]["affinity"]["nodeAffinity"],
        ),
    ),
]


@pytest.mark.parametrize(("check", "damaged"), DAMAGES, ids=lambda x: getattr(x, "__name__", ""))
def test_the_checks_bite(check: Callable[[Resource], None], damaged: Resource) -> None:
    with pytest.raises(AssertionError):
        check(copy.deepcopy(damaged))


def test_both_files_hold_one_cluster() -> None:
    assert spec_of(CLUSTER) == spec_of(JOB)
    assert CLUSTER["metadata"]["namespace"] == JOB["metadata"]["namespace"]


def test_a_job_takes_its_cluster_with_it_and_is_tried_again() -> None:
    spec = JOB["spec"]
    assert spec["shutdownAfterJobFinishes"] is True and spec["backoffLimit"] >= 1
    job = re.match(r"python -m ([\w.]+) --config (\S+)$", spec["entrypoint"])
    assert job is not None and (REPO / f"{job[1].replace('.', '/')}.py").exists()
    (head,) = spec_of(JOB)["headGroupSpec"]["template"]["spec"]["containers"]
    assert any(job[2].startswith(mount["mountPath"] + "/") for mount in head["volumeMounts"])


def test_the_account_and_the_namespace_are_made() -> None:
    namespace, account = yaml.safe_load_all((FOLDER / "prerequisites.yaml").read_text())
    assert namespace["metadata"]["name"] == account["metadata"]["namespace"] == CLUSTER["metadata"]["namespace"]
    assert account["kind"] == "ServiceAccount" and account["metadata"]["name"] == "pseudogt"


def test_the_hook_calls_the_drainer_as_it_wants_to_be_called(capsys: pytest.CaptureFixture[str]) -> None:
    command = groups(CLUSTER)[1]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    with pytest.raises(SystemExit):
        main([*command[3:], "--help"])
    assert "usage" in capsys.readouterr().out
