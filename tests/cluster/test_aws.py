"""`cluster.yaml` keeps what docs/how-to/aws.md promises, by Ray's own code and AWS's interfaces.

AWS is simulated by moto, which has AWS's own list of instance types.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("ray", reason="the training extra is not installed")
from ray.autoscaler._private.util import prepare_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceConstraint

from elastic_ray.placement import GPUS, Node, allocate, nodes_from_ray
from elastic_ray.plan import load_inputs, plan_sweep
from elastic_ray.spec import SpecError, load_spec

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
PAGE = (ROOT / "docs" / "how-to" / "aws.md").read_text(encoding="utf-8")
TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
KINDS = {"l40s": "L40S", "a100": "A100-80G", "h100": "H100"}
"""The groups' names without `_spot` and `_on_demand`, and the GPUs of each."""


def config() -> dict[str, Any]:
    prepared: dict[str, Any] = prepare_config(yaml.safe_load(TEXT))
    return prepared


def groups() -> dict[str, dict[str, Any]]:
    types: dict[str, dict[str, Any]] = config()["available_node_types"]
    return types


def nodes_of(kind: str) -> tuple[Node, ...]:
    """Return the nodes of that kind's spot group, all of them, as Ray would report them."""
    group = groups()[f"{kind}_spot"]
    detected = {f"accelerator_type:{KINDS[kind].partition('-')[0]}": 1}
    return nodes_from_ray(
        {"NodeID": f"{n}", "Alive": True, "Resources": {**detected, **group["resources"]}}
        for n in range(group["max_workers"])
    )


@pytest.fixture(scope="module")
def instance_types() -> dict[str, Any]:
    """AWS's own description of its instance types, by name."""
    moto = importlib.util.find_spec("moto")
    if moto is None or moto.origin is None:
        pytest.skip("moto is not installed")
    file = Path(moto.origin).parent / "ec2" / "resources" / "instance_types.json.gz"
    types: dict[str, Any] = json.loads(gzip.decompress(file.read_bytes()))
    return types


def test_workers_are_spot_first_and_go_when_idle() -> None:
    types = groups()
    head = types.pop("head")
    assert config()["head_node_type"] == "head"
    assert not any(head["resources"].values())
    assert "InstanceMarketOptions" not in head["node_config"]
    assert set(types) == {f"{kind}_{market}" for kind in KINDS for market in ("spot", "on_demand")}
    for kind in KINDS:
        spot, fallback = types[f"{kind}_spot"], types[f"{kind}_on_demand"]
        assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
        assert spot["node_config"] == fallback["node_config"]
        assert spot["resources"] == fallback["resources"]
        assert spot["priority"] > fallback["priority"]
        assert spot["max_workers"] >= fallback["max_workers"]
    assert {node["min_workers"] for node in types.values()} == {0}
    assert 0 < config()["idle_timeout_minutes"] <= 30
    assert config()["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_is_what_its_instance_type_is(kind: str, instance_types: dict[str, Any]) -> None:
    [node, *_] = nodes_of(kind)
    assert node.gpu_type == KINDS[kind]
    group = groups()[f"{kind}_spot"]
    described = instance_types[group["node_config"]["InstanceType"]]
    assert described["VCpuInfo"]["DefaultVCpus"] == node.cpus
    [gpu] = described["GpuInfo"]["Gpus"]
    assert (gpu["Name"], gpu["Count"]) == (KINDS[kind].partition("-")[0], node.gpus)
    # NVIDIA counts an L40S as 48 GB; what AWS lists is without the part that ECC takes.
    assert 0.9 <= gpu["MemoryInfo"]["SizeInMiB"] / 1024 / GPUS[KINDS[kind]].memory <= 1
    assert described["InstanceStorageInfo"]["NvmeSupport"] == "required"
    assert "spot" in described["SupportedUsageClasses"]
    terabytes = described["InstanceStorageInfo"]["TotalSizeInGB"] / 1000
    assert f"{terabytes:.3g} TB" in next(
        line for line in PAGE.splitlines() if line.startswith(f"| `{kind}_spot`")
    )


def holding(path: Path) -> set[str]:
    """Return the kinds of GPU on whose nodes the sweep has room."""
    spec = load_spec(path)
    inputs = load_inputs(spec, to_run=False)
    plan = plan_sweep(spec, inputs.task_info(), inputs.folders)
    kinds = set()
    for kind in KINDS:
        with contextlib.suppress(SpecError):
            allocate(plan, inputs.task_info(), nodes_of(kind))
            kinds.add(kind)
    return kinds


@pytest.mark.parametrize("spec", SWEEPS, ids=lambda path: path.stem)
def test_a_shipped_sweep_has_a_group_that_holds_it(spec: Path) -> None:
    """The groups are those that the page names for it."""
    [row] = [
        line for line in PAGE.splitlines() if line.startswith("|") and f"`{spec.stem}`" in line
    ]
    named = {kind for kind in KINDS if f"`{kind}_spot`" in row}
    assert named and named <= holding(spec)


def started_for(bundles: list[dict[str, float]], failed: tuple[str, ...] = ()) -> Counter[str]:
    """Return how many nodes of each group Ray's autoscaler starts for a request of `bundles`.

    `failed` groups had no instance at the last attempt.
    """
    configs = AutoscalingConfig(yaml.safe_load(TEXT), skip_content_hash=True)
    asked = ResourceRequestUtil.group_by_count(
        [ResourceRequestUtil.make(bundle) for bundle in bundles]
    )
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=configs.get_node_type_configs(),
        max_num_nodes=configs.get_max_num_worker_nodes(),
        cluster_resource_constraints=[ClusterResourceConstraint(resource_requests=asked)],
        recoverable_resource_availabilities={name: 0.0 for name in failed},
    )
    reply = ResourceDemandScheduler().schedule(request)
    assert not reply.infeasible_cluster_resource_constraints
    return Counter({launch.instance_type: launch.count for launch in reply.to_launch})


@pytest.mark.parametrize("kind", KINDS)
def test_a_request_that_names_the_gpu_starts_that_kind(kind: str) -> None:
    resource = f"accelerator_type:{KINDS[kind]}"
    gpus = groups()[f"{kind}_spot"]["resources"]["GPU"]
    bundles = [{"GPU": float(gpus), resource: 0.001}] * 2
    assert started_for(bundles) == {f"{kind}_spot": 2}
    assert started_for(bundles, failed=(f"{kind}_spot",)) == {f"{kind}_on_demand": 2}
    assert f'"{resource}": 0.001' in PAGE.replace("\\", "")


def test_the_bucket_is_all_there_is_to_fill_in() -> None:
    words = {word.strip("{},;:\"'`.") for word in TEXT.replace("/", " ").split()}
    assert {word for word in words if "REPLACE" in word} == {"REPLACE-WITH-BUCKET"}
    assert "`REPLACE-WITH-BUCKET`" in PAGE


def test_the_roles_are_those_of_the_template() -> None:
    template = yaml.safe_load((ROOT / "docs" / "aws-roles.yaml").read_text(encoding="utf-8"))
    resources = template["Resources"]
    assert list(template["Parameters"]) == ["Bucket"]
    roles = {
        properties["InstanceProfileName"]: properties["Roles"]
        for name in ("HeadProfile", "WorkerProfile")
        for properties in [resources[name]["Properties"]]
    }
    named = {name: group["node_config"]["IamInstanceProfile"] for name, group in groups().items()}
    assert named.pop("head") == {"Name": "elastic-ray-head"}
    assert {profile["Name"] for profile in named.values()} == {"elastic-ray-worker"}
    assert roles == {
        "elastic-ray-head": [{"Ref": "HeadRole"}],
        "elastic-ray-worker": [{"Ref": "WorkerRole"}],
    }
    # Workers run the models' code: they may not touch instances.
    worker = resources["WorkerRole"]["Properties"]
    assert "ManagedPolicyArns" not in worker and "Policies" not in worker
    [start] = resources["HeadRole"]["Properties"]["Policies"]
    allowed = {each["Action"]: each["Resource"] for each in start["PolicyDocument"]["Statement"]}
    assert allowed["iam:PassRole"] == {"Fn::GetAtt": ["WorkerRole", "Arn"]}
    image = groups()["head"]["node_config"]["ImageId"].removeprefix("resolve:ssm:")
    pattern = allowed["ssm:GetParameters"]["Fn::Sub"].partition("parameter")[2]
    assert pattern.endswith("/*") and image.startswith(pattern[:-1])
    access = resources["BucketAccess"]["Properties"]
    assert access["Roles"] == [{"Ref": "WorkerRole"}, {"Ref": "HeadRole"}]
    # CloudFormation reads no aliases.
    text = (ROOT / "docs" / "aws-roles.yaml").read_text(encoding="utf-8")
    assert not any(
        isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None)
        for event in yaml.parse(text)
    )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    moto = pytest.importorskip("moto", reason="moto simulates AWS")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "none")
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes the SSH key there
    with moto.mock_aws():
        yield


def test_ec2_starts_nodes_of_every_group(aws: None) -> None:
    """Ray completes the file and starts an instance of each group, as `ray up` does."""
    import boto3
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    iam = boto3.client("iam")
    for name in ("elastic-ray-head", "elastic-ray-worker"):
        iam.create_instance_profile(InstanceProfileName=name)
    completed = bootstrap_aws(config())
    provider = AWSNodeProvider(completed["provider"], "elastic_ray")
    image = groups()["head"]["node_config"]["ImageId"]
    for name, group in completed["available_node_types"].items():
        settings = group["node_config"]
        assert settings["ImageId"] == image, "Ray puts in no image of its own"
        # moto knows no public parameters of AWS's, so an image stands for this one.
        settings["ImageId"] = "ami-12c6146b"
        # The client checks names and types of all fields before it sends them.
        [instance] = provider.create_node(settings, {"ray-user-node-type": name}, 1).values()
        started = provider.ec2.Instance(instance.id)
        assert started.instance_type == settings["InstanceType"]
        assert started.iam_instance_profile["Arn"].endswith(settings["IamInstanceProfile"]["Name"])
        assert (started.instance_lifecycle == "spot") == name.endswith("_spot")
        [disk] = settings["BlockDeviceMappings"]
        assert disk["Ebs"].get("Throughput", 0) <= disk["Ebs"].get("Iops", 3000) / 4


def test_nothing_is_let_in_but_ssh() -> None:
    pytest.importorskip("boto3", reason="Ray's AWS part needs boto3")
    from ray.autoscaler._private.aws import config as ray_aws

    rules = ray_aws._create_default_inbound_rules(
        ["sg-own"], config()["provider"]["security_group"].get("IpPermissions", [])
    )
    [outside] = [rule for rule in rules if rule.get("IpRanges")]
    assert (outside["FromPort"], outside["ToPort"]) == (22, 22)
    [inside] = [rule for rule in rules if rule is not outside]
    assert inside["UserIdGroupPairs"] == [{"GroupId": "sg-own"}]
