"""deploy/aws without an account or a registry: its Terraform, its policies, Dagster's instance and the tasks' entry.

Does not belong here: that the policies let the platform work, and nothing else (`server/test_aws.py`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2
import pytest
import yaml
from dagster import DagsterInstance
from dagster_aws.ecs import EcsRunLauncher
from dagster_aws.s3 import S3ComputeLogManager
from moto import mock_aws

from mlops_platform.settings import Settings
from mlops_platform.settings.declaration import environment_name
from mlops_platform.storage.glue import DATABASES
from mlops_platform_tests.integration.aws import POLICIES, policy

ROOT = Path(__file__).resolve().parents[2]
AWS = ROOT / "deploy/aws"
FILES = sorted(AWS.glob("*.tf"))
SCHEMA: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "terraform_aws_schema.json").read_text())[
    "kinds"
]
# Actions for which AWS knows no resource.
NO_RESOURCE = {"ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition"}
META = {"count", "depends_on", "for_each", "lifecycle", "provider"}


def text(path: Path) -> str:
    """A file without its comments."""
    return re.sub(r"(?m)^\s*#.*$", "", path.read_text())


ALL = "\n".join(map(text, FILES))
BLOCKS = [
    (path, kind, block) for path in FILES for kind, blocks in hcl2.loads(path.read_text()).items() for block in blocks
]


def declared() -> Iterator[tuple[str, dict[str, Any]]]:
    """Address and body of everything that can be referred to."""
    for _, kind, block in BLOCKS:
        if kind == "locals":
            yield from ((f"local.{name}", {}) for name in block if not name.startswith("__"))
        elif kind == "variable":
            yield from ((f"var.{_plain(name)}", body) for name, body in block.items())
        elif kind in {"resource", "data"}:
            for family, named in block.items():
                prefix = "data." if kind == "data" else ""
                yield from ((f"{prefix}{_plain(family)}.{_plain(name)}", body) for name, body in named.items())


def _plain(name: str) -> str:
    return name.strip('"')


DECLARED = dict(declared())


class TestTerraform:
    def test_it_is_formatted(self) -> None:
        if shutil.which("terraform") is None:
            pytest.skip("there is no terraform here")
        done = subprocess.run(["terraform", "fmt", "-check", "-diff", AWS], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")

    def test_every_name_is_declared_and_used(self) -> None:
        names = r"\b(?:(?:var|local)\.\w+|(?:data\.)?aws_\w+\.\w+)"
        used = set(re.findall(names, ALL))
        assert used - set(DECLARED) == set()
        assert {name for name in DECLARED if name.startswith(("var.", "local.", "data."))} - used == set()

    @pytest.mark.parametrize("address", [name for name in DECLARED if "aws_" in name])
    def test_the_provider_takes_it(self, address: str) -> None:
        kind = address.rpartition(".")[0]
        assert _faults(DECLARED[address], SCHEMA[kind]["arguments"], META) == []

    def test_what_is_read_of_a_resource_is_there(self) -> None:
        read = re.findall(r"\b((?:data\.)?aws_\w+)\.\w+(?:\[[^]]*\])?\.(\w+)", ALL)
        assert [f"{kind}.{name}" for kind, name in read if name not in SCHEMA[kind]["attributes"]] == []

    def test_the_catalogs_databases_are_the_platforms(self) -> None:
        (found,) = re.findall(r"databases = (\[[^]]*\])", ALL)
        assert json.loads(found) == list(DATABASES)

    def test_no_bucket_is_public_and_none_unencrypted(self) -> None:
        block = DECLARED["aws_s3_bucket_public_access_block.this"]
        kinds = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
        assert all(block[kind] is True for kind in kinds)
        for name in (
            "public_access_block",
            "server_side_encryption_configuration",
            "policy",
            "lifecycle_configuration",
        ):
            assert DECLARED[f"aws_s3_bucket_{name}.this"]["for_each"] == "${aws_s3_bucket.this}"

    def test_the_database_is_private_and_its_password_in_no_state(self) -> None:
        database = DECLARED["aws_db_instance.this"]
        assert (database["publicly_accessible"], database["storage_encrypted"]) == (False, True)
        assert "password" not in database
        assert database["manage_master_user_password"] is True

    def test_nothing_is_open_to_the_world(self) -> None:
        inward = {name: body for name, body in DECLARED.items() if "ingress_rule" in name}
        assert len(inward) == 3
        assert all("referenced_security_group_id" in body and "cidr_ipv4" not in body for body in inward.values())
        assert "assign_public_ip = false" in ALL

    def test_no_secret_has_a_value(self) -> None:
        assert "aws_secretsmanager_secret_version" not in ALL
        (found,) = re.findall(r"\n  secrets = \{(.*?)\n  \}", ALL, re.DOTALL)
        assert set(re.findall(r"(\w+)\s+=", found)) <= {environment_name(name) for name in Settings.model_fields}

    def test_tasks_are_given_settings_that_there_are(self) -> None:
        named = set(re.findall(r"\b(?:MLOPS|MLFLOW)_\w+", ALL)) - {"MLOPS_DAGSTER_YAML"}
        assert named <= {environment_name(name) for name in Settings.model_fields}


def _faults(body: dict[str, Any], known: dict[str, Any], more: set[str]) -> list[str]:
    """Arguments that the provider does not know or that it misses, in blocks too."""
    given = {name: value for name, value in body.items() if not name.startswith("__") and name not in more}
    for dynamic in given.pop("dynamic", []):
        for name, block in dynamic.items():
            if not name.startswith("__"):
                given[_plain(name)] = [*given.get(_plain(name), []), *block["content"]]
    found = [f"{name} is unknown" for name in given if name not in known]
    required = {name for name, of in known.items() if of is True or (isinstance(of, dict) and of["required"])}
    found += [f"{name} is missing" for name in required - set(given)]
    for name, value in given.items():
        nested = known.get(name)
        if isinstance(nested, dict) and isinstance(value, list):
            found += [f"{name}: {fault}" for each in value for fault in _faults(each, nested["arguments"], set())]
    return found


@pytest.mark.parametrize("name", POLICIES)
class TestPolicies:
    def test_it_grants_no_more_than_it_names(self, name: str) -> None:
        for statement in policy(name)["Statement"]:
            assert statement["Effect"] == "Allow"
            assert not [action for action in statement["Action"] if "*" in action]
            if "*" in statement["Resource"]:
                assert set(statement["Action"]) <= NO_RESOURCE
            for resource in statement["Resource"]:
                account = resource.split(":")[4:5]
                assert resource == "*" or resource.startswith("arn:aws:s3:::") or account == ["123456789012"], resource
                assert not resource.startswith("arn:aws:s3:::*")

    def test_a_role_has_it(self, name: str) -> None:
        (roles,) = re.findall(r"roles = toset\((\[[^]]*\])\)", ALL)
        assert name in {*json.loads(roles), "analyst"}

    def test_every_value_is_filled_in(self, name: str) -> None:
        (values,) = re.findall(r"policy_values = \{(.*?)\n  \}", ALL, re.DOTALL)
        asked = set(re.findall(r"\$\{(\w+)\}", (AWS / f"iam/{name}.json").read_text()))
        assert asked <= set(re.findall(r"(\w+)\s+=", values))


def test_the_instance_is_one_that_dagster_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "region": "us-east-1",
        "scratch_bucket": "scratch",
        "cluster": "mlops",
        "run_family": "mlops-run",
        "subnets": "subnet-1, subnet-2",
        "security_group": "sg-1",
    }
    template = (AWS / "dagster.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", template)) == set(values)
    filled = re.sub(r"\$\{(\w+)\}", lambda found: values[found[1]], template)
    # Its database is another test's; everything else of it is opened here.
    config = {key: value for key, value in yaml.safe_load(filled).items() if key != "storage"}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(config))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "tests")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        import boto3

        container = {"name": "run", "image": "platform", "memory": 512}
        boto3.client("ecs").register_task_definition(family="mlops-run", containerDefinitions=[container])
        with DagsterInstance.from_config(str(tmp_path)) as instance:
            launcher = instance.run_launcher
            assert isinstance(launcher, EcsRunLauncher)
            assert launcher.task_definition.endswith("task-definition/mlops-run:1")
            assert launcher.run_task_kwargs["networkConfiguration"]["awsvpcConfiguration"]["subnets"][1] == "subnet-2"
            assert isinstance(instance.compute_log_manager, S3ComputeLogManager)
            assert instance.run_monitoring_enabled


def test_a_task_begins_with_dagsters_instance_and_goes_on_as_told(tmp_path: Path) -> None:
    (tmp_path / "mlops").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "mlops").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.defpath}",
        "MLOPS_HOME": str(tmp_path / "data"),
        "MLOPS_DAGSTER_YAML": "a: '$b %s'\n",
    }
    command = ["sh", "-c", (AWS / "entry.sh").read_text(), "entry", "dagster", "api", "execute_run", '{"a": "b c"}']
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 'exec -- dagster api execute_run {"a": "b c"}\n'
    assert [path.name for path in (tmp_path / "data/dagster").iterdir()] == ["dagster.yaml"]
    assert (tmp_path / "data/dagster/dagster.yaml").read_text() == environment["MLOPS_DAGSTER_YAML"]
