"""The policies give what the engine needs and no more; requests are put to them as AWS would."""

from __future__ import annotations

import copy
import fnmatch
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.releases.store import commit_key, head_key, object_key, version_prefix

REPO = Path(__file__).resolve().parents[2]
FOLDER = REPO / "cluster/iam"
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
POLICIES = {name: policy for name, policy in FILES.items() if "Statement" in policy}
PLACEHOLDERS = {"ACCOUNT", "REGION", "BUCKET", "PREFIX"}
NEEDS_STAR = {"ecr:GetAuthorizationToken", *(a for a in FILES["head_policy"]["Statement"][0]["Action"] if a.startswith("ec2:Describe"))}
"""Actions that AWS defines for the resource * alone."""

Policy = dict[str, Any]


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def check_no_star(policies: dict[str, Policy]) -> None:
    for name, policy in policies.items():
        for s in policy["Statement"]:
            if s["Effect"] != "Allow":
                continue
            for action in listed(s["Action"]):
                assert "*" not in action, f"{name} {s['Sid']}: allows {action}"
            if "Resource" in s and any(r == "*" for r in listed(s["Resource"])):
                assert set(listed(s["Action"])) <= NEEDS_STAR, f"{name} {s['Sid']}: every resource of {s['Action']}"


def check_placeholders(policies: dict[str, Policy]) -> None:
    """What a user has to fill in is written in one way."""
    for name, policy in policies.items():
        text = json.dumps(policy)
        assert set(re.findall(r"\b[A-Z]{4,}\b", text)) - {"HEAD"} <= PLACEHOLDERS, f"{name}: an unknown placeholder"
        assert not re.search(r"\d{12}|us-east-1|arn:aws:s3:::(?!BUCKET)", text), f"{name}: somebody's account, region or bucket"


def check_writes(policies: dict[str, Policy]) -> None:
    """Writes that replace are refused wherever the engine never replaces; all that it does is let through."""
    policy = policies["bucket_policy"]
    put, new = "s3:PutObject", {"s3:ObjectCreationOperation": "true", "aws:SecureTransport": "true"}
    create, swap = {**new, "s3:if-none-match": "*"}, {**new, "s3:if-match": "etag"}
    part = {"s3:ObjectCreationOperation": "false", "aws:SecureTransport": "true"}
    digest = "ab" * 32
    fixed = [object_key(digest), commit_key(digest, 0), f"runs/{digest}/attempts/x/000001-1.json"]
    fixed += [f"{version_prefix('itw', 1)}/{name}" for name in ("manifest.json", "quarantine.parquet", "README.md")]
    for key in fixed:
        assert not denied(policy, put, key, create) and not denied(policy, put, key, part), f"{key}: may not be created"
        assert denied(policy, put, key, new) and denied(policy, put, key, swap), f"{key}: may be replaced"
        assert not denied(policy, "s3:DeleteObject", key, part), f"{key}: may not be deleted"
    assert not denied(policy, put, head_key("itw"), create) and not denied(policy, put, head_key("itw"), swap), "HEAD cannot move"
    assert denied(policy, put, head_key("itw"), new), "HEAD can be overwritten"
    assert denied(policy, "s3:GetObject", fixed[0], {**part, "aws:SecureTransport": "false"}), "plain HTTP"


def denied(policy: Policy, action: str, key: str, context: dict[str, str]) -> bool:
    """Whether a policy refuses a request for an object of the store."""
    arn = f"arn:aws:s3:::BUCKET/PREFIX/store/{key}"
    return any(s["Effect"] == "Deny" and applies(s, action, arn, context) for s in policy["Statement"])


def applies(statement: Policy, action: str, arn: str, context: dict[str, str]) -> bool:
    if not any(fnmatch.fnmatchcase(action, a) for a in listed(statement["Action"])):
        return False
    if not any(fnmatch.fnmatchcase(arn, r) for r in listed(statement["Resource"])):
        return False
    # All operators, and all keys of an operator, must hold; one value of a key is enough.
    for operator, keys in statement.get("Condition", {}).items():
        for key, values in keys.items():
            found = context.get(key)
            holds = {
                "Null": lambda v, found=found: (found is None) == (v == "true"),
                "Bool": lambda v, found=found: found == v,
                "StringEquals": lambda v, found=found: found == v,
                "StringLike": lambda v, found=found: found is not None and fnmatch.fnmatchcase(found, v),
            }[operator]
            if not any(holds(v) for v in listed(values)):
                return False
    return True


def allowed(policy: Policy, action: str, arn: str, context: dict[str, str] | None = None) -> bool:
    return any(s["Effect"] == "Allow" and applies(s, action, arn, context or {}) for s in policy["Statement"])


def check_worker(policies: dict[str, Policy]) -> None:
    """The bucket's prefix, and no object elsewhere; uploads can be finished, listed and given up."""
    policy = policies["worker_policy"]
    inside, outside = (
        "arn:aws:s3:::BUCKET/PREFIX/a/b",
        ["arn:aws:s3:::BUCKET/other/a", "arn:aws:s3:::OTHER/PREFIX/a", "arn:aws:s3:::BUCKET/PREFIXED"],
    )
    for action in ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts"):
        assert allowed(policy, f"s3:{action}", inside), action
        assert not any(allowed(policy, f"s3:{action}", arn) for arn in outside), action
    bucket = "arn:aws:s3:::BUCKET"
    assert allowed(policy, "s3:ListBucketMultipartUploads", bucket)
    assert allowed(policy, "s3:ListBucket", bucket, {"s3:prefix": "PREFIX/store"})
    assert not allowed(policy, "s3:ListBucket", bucket, {"s3:prefix": ""}) and not allowed(policy, "s3:ListBucket", bucket)
    assert not any(a.startswith(("ec2:", "iam:")) for s in policy["Statement"] for a in listed(s["Action"])), "a worker makes no machines"


def check_head(policies: dict[str, Policy]) -> None:
    """The head launches the types of the cluster file with its tag and IMDSv2, ends machines of its tag, and passes on one role."""
    policy = policies["head_policy"]
    machine = "arn:aws:ec2:REGION:ACCOUNT:instance/i-1"
    cluster = yaml.safe_load((REPO / "ray_cluster.yaml").read_text())
    tag = {"aws:RequestTag/ray-cluster-name": cluster["cluster_name"], "ec2:MetadataHttpTokens": "required"}
    for name, node in cluster["available_node_types"].items():
        may = allowed(policy, "ec2:RunInstances", machine, {**tag, "ec2:InstanceType": node["node_config"]["InstanceType"]})
        assert may == (name != cluster["head_node_type"]), f"{name}: {may}"
    right = {**tag, "ec2:InstanceType": "g6.4xlarge"}
    for wrong in (
        {"ec2:MetadataHttpTokens": "optional"},
        {"aws:RequestTag/ray-cluster-name": "other"},
        {"ec2:InstanceType": "p5.48xlarge"},
    ):
        assert not allowed(policy, "ec2:RunInstances", machine, right | wrong), f"may launch with {wrong}"
    disk = "arn:aws:ec2:REGION:ACCOUNT:volume/v-1"
    assert allowed(policy, "ec2:RunInstances", disk, {"ec2:Encrypted": "true"})
    assert not allowed(policy, "ec2:RunInstances", disk, {"ec2:Encrypted": "false"}), "unencrypted disks"
    for action in ("ec2:TerminateInstances", "ec2:CreateTags"):
        assert allowed(policy, action, machine, {"aws:ResourceTag/ray-cluster-name": "pseudogt"}), action
        assert not allowed(policy, action, machine, {"aws:ResourceTag/ray-cluster-name": "other"}), f"{action} of others' machines"
    role = "arn:aws:iam::ACCOUNT:role/"
    assert allowed(policy, "iam:PassRole", f"{role}pseudogt-worker", {"iam:PassedToService": "ec2.amazonaws.com"})
    assert not allowed(policy, "iam:PassRole", f"{role}pseudogt-head", {"iam:PassedToService": "ec2.amazonaws.com"}), "any role"
    assert not allowed(policy, "iam:PassRole", f"{role}pseudogt-worker", {"iam:PassedToService": "lambda.amazonaws.com"}), "any service"


CHECKS = [check_no_star, check_placeholders, check_writes, check_worker, check_head]


@pytest.mark.parametrize("check", CHECKS, ids=lambda f: f.__name__)
def test_the_policies(check: Callable[[dict[str, Policy]], None]) -> None:
    check(POLICIES)


def statement(policies: dict[str, Policy], name: str, sid: str) -> dict[str, Any]:
    return next(s for s in policies[name]["Statement"] if s["Sid"] == sid)


DAMAGES: list[tuple[Callable[[dict[str, Policy]], None], str, str, dict[str, Any]]] = [
    (check_no_star, "worker_policy", "ReadAndWriteBelowThePrefix", {"Action": "s3:*"}),
    (check_no_star, "worker_policy", "ReadAndWriteBelowThePrefix", {"Resource": "*"}),
    (check_no_star, "head_policy", "GiveWorkersTheirRoleAndNoOther", {"Resource": "*"}),
    (check_placeholders, "worker_policy", "ListThePrefix", {"Resource": "arn:aws:s3:::my-bucket"}),
    (check_placeholders, "head_policy", "NameTheImage", {"Resource": "arn:aws:ssm:us-east-1::parameter/x"}),
    (check_placeholders, "worker_policy", "PullTheImage", {"Resource": "arn:aws:ecr:REGION:YOURACCOUNT:repository/pseudogt"}),
    (check_writes, "bucket_policy", "WrittenOnceAndNeverReplaced", {"Condition": {"Null": {"s3:if-none-match": "true"}}}),
    (check_writes, "bucket_policy", "WrittenOnceAndNeverReplaced", {"Resource": "arn:aws:s3:::BUCKET/PREFIX/store/*"}),
    (check_writes, "bucket_policy", "WrittenOnceAndNeverReplaced", {"Effect": "Allow"}),
    (check_writes, "bucket_policy", "HeadMovesByCompareAndSwap", {"Condition": {"Null": {"s3:if-none-match": "true"}}}),
    (check_writes, "bucket_policy", "EncryptedTransportOnly", {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}),
    (check_worker, "worker_policy", "ReadAndWriteBelowThePrefix", {"Resource": "arn:aws:s3:::BUCKET/*"}),
    (check_worker, "worker_policy", "ReadAndWriteBelowThePrefix", {"Resource": "arn:aws:s3:::BUCKET/PREFIX*"}),
    (check_worker, "worker_policy", "ReadAndWriteBelowThePrefix", {"Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]}),
    (check_worker, "worker_policy", "ListThePrefix", {"Condition": {}}),
    (check_head, "head_policy", "LaunchMachinesOfThisClusterOnly", {"Condition": {}}),
    (check_head, "head_policy", "LaunchWithEncryptedDisksOnly", {"Condition": {}}),
    (check_head, "head_policy", "TagAndEndMachinesOfThisClusterOnly", {"Condition": {}}),
    (check_head, "head_policy", "GiveWorkersTheirRoleAndNoOther", {"Resource": "arn:aws:iam::ACCOUNT:role/*"}),
    (check_head, "head_policy", "GiveWorkersTheirRoleAndNoOther", {"Condition": {}}),
]


@pytest.mark.parametrize(("check", "name", "sid", "changed"), DAMAGES, ids=lambda x: getattr(x, "__name__", None) or str(x)[:40])
def test_the_checks_bite(check: Callable[[dict[str, Policy]], None], name: str, sid: str, changed: dict[str, Any]) -> None:
    policies = copy.deepcopy(POLICIES)
    statement(policies, name, sid).update(changed)
    with pytest.raises(AssertionError):
        check(policies)


def test_uploads_that_died_are_removed() -> None:
    (rule,) = FILES["bucket_lifecycle"]["Rules"]
    assert rule["Status"] == "Enabled" and rule["Filter"] == {"Prefix": "PREFIX/"}
    assert 1 <= rule["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"] <= 7
    assert "Expiration" not in rule, "objects never expire by themselves"


def test_machines_alone_take_the_roles() -> None:
    (trust,) = FILES["ec2_trust"]["Statement"]
    assert trust["Principal"] == {"Service": "ec2.amazonaws.com"} and trust["Action"] == "sts:AssumeRole"


def test_aws_would_take_them() -> None:
    """By moto's checks of policy documents, roles, bucket policies and lifecycles."""
    moto, boto3 = pytest.importorskip("moto"), pytest.importorskip("boto3")
    values = {"ACCOUNT": "123456789012", "REGION": "us-east-1", "BUCKET": "a-bucket", "PREFIX": "a/prefix"}

    def filled(name: str) -> str:
        return re.sub(r"\b(" + "|".join(values) + r")\b", lambda m: values[m[1]], json.dumps(FILES[name]))

    with moto.mock_aws():
        keys = {"region_name": "us-east-1", "aws_access_key_id": "x", "aws_secret_access_key": "x"}
        iam, s3 = boto3.client("iam", **keys), boto3.client("s3", **keys)
        iam.create_role(RoleName="pseudogt-worker", AssumeRolePolicyDocument=filled("ec2_trust"))
        for name in ("head_policy", "worker_policy"):
            iam.create_policy(PolicyName=name, PolicyDocument=filled(name))
        s3.create_bucket(Bucket="a-bucket")
        s3.put_bucket_policy(Bucket="a-bucket", Policy=filled("bucket_policy"))
        s3.put_bucket_lifecycle_configuration(Bucket="a-bucket", LifecycleConfiguration=json.loads(filled("bucket_lifecycle")))
