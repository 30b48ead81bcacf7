"""An AWS account for tests: moto's server, with what AWS does and moto leaves out.

Glue refuses an update of a version that is no longer the table's, which is all that concurrent writers have; IAM weighs
the resources of Glue and Athena, not the action alone; Athena, which moto does not run, gives rows that a test has
queued, and unloads them into Parquet. All as AWS documents it. Does not belong here: tests.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
from moto.athena.responses import AthenaResponse
from moto.core.authorization import enable_iam_authentication
from moto.core.exceptions import AccessDeniedError, JsonRESTError
from moto.glue.responses import GlueResponse
from moto.iam.access_control import IAMRequest, IAMRequestBase
from moto.s3.models import s3_backends
from moto.s3.responses import ACTION_MAP

from mlops_platform_tests.integration.buckets import REGION, Bucket, running_s3

ACCOUNT = "123456789012"
IAM = Path(__file__).resolve().parents[2] / "deploy/aws/iam"
POLICIES = sorted(path.stem for path in IAM.glob("*.json"))
ROOT = f"arn:aws:glue:{REGION}:{ACCOUNT}"


@dataclass
class Account:
    """A running account.

    Args:
        endpoint: Where all its services answer.
        lost_answers: Updates of a Glue table that still take effect without their caller's learning of it.
        results: What Athena's next queries give: rows, the reason why they fail, or None: what moto gives.
        asked: The statements Athena was given.
        used: IAM's actions, while somebody was checked.
    """

    endpoint: str
    lost_answers: int = 0
    results: list[pa.Table | str | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def bucket(self) -> Bucket:
        """A new bucket."""
        found = Bucket.fresh(self.endpoint)
        found.create()
        return found

    def client(self, service: str, **credentials: str) -> Any:
        """A client of one of its services; without credentials, one that may do everything while nobody is checked."""
        keys = credentials or {"aws_access_key_id": "tests", "aws_secret_access_key": "tests"}
        return boto3.client(service, endpoint_url=self.endpoint, region_name=REGION, **keys)

    def principal(self, *policies: Mapping[str, Any]) -> dict[str, str]:
        """Somebody with these policies and no other; the credentials as boto3 names them."""
        iam, name = self.client("iam"), f"somebody-{len(self.client('iam').list_users()['Users'])}"
        iam.create_user(UserName=name)
        for number, policy in enumerate(policies):
            iam.put_user_policy(UserName=name, PolicyName=f"policy-{number}", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}

    def databases(self, *names: str, warehouse: str) -> None:
        """Makes Glue databases, as deploy/aws does."""
        for name in names:
            place = {"Name": name, "LocationUri": f"{warehouse}/{name}"}
            self.client("glue").create_database(DatabaseInput=place)

    def clear(self) -> None:
        """Takes away every Glue database with its tables."""
        glue = self.client("glue")
        for database in glue.get_databases()["DatabaseList"]:
            glue.delete_database(Name=database["Name"])


def policy(name: str, **values: str) -> dict[str, Any]:
    """A policy of deploy/aws, filled in as Terraform does."""
    known = {"account": ACCOUNT, "partition": "aws", "region": REGION, "workgroup": "primary", "name": "mlops"} | values
    arns = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/fs-1"

    def value(found: re.Match[str]) -> str:
        return known.get(found[1]) or (arns if found[1].endswith("arn") else found[1].replace("_", "-"))

    document: dict[str, Any] = json.loads(re.sub(r"\$\{(\w+)\}", value, (IAM / f"{name}.json").read_text()))
    return document


@contextmanager
def running_account() -> Iterator[Account]:
    """A running account; all it holds is gone at the end."""
    with running_s3() as endpoint:
        account = Account(endpoint)
        with (
            patch.object(GlueResponse, "update_table", _update(account, GlueResponse.update_table)),
            patch.object(AthenaResponse, "get_query_execution", _run(account, AthenaResponse.get_query_execution)),
        ):
            yield account
        account.clear()


@contextmanager
def enforced(account: Account) -> Iterator[None]:
    """Meanwhile nobody may do more than their policies allow."""
    real = IAMRequestBase.check_action_permitted

    def check(self: Any, resource: str) -> None:
        real(self, resource)
        account.used.add(self._action)

    # PyArrow signs a body in a way that moto computes otherwise; who calls is asked all the same.
    with (
        patch.object(GlueResponse, "_authenticate_and_authorize_normal_action", _weigh(_glue_resources)),
        patch.object(AthenaResponse, "_authenticate_and_authorize_normal_action", _weigh(_athena_resources)),
        patch.object(IAMRequestBase, "check_signature", lambda _: None),
        patch.object(IAMRequestBase, "check_action_permitted", check),
        patch.dict(ACTION_MAP["BUCKET"]["HEAD"], {"DEFAULT": "ListBucket"}),
        enable_iam_authentication(),
    ):
        yield


def _update(account: Account, real: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def update_table(self: Any) -> Any:
        asked = self.parameters
        with account._lock:
            held = self.glue_backend.get_table(asked["DatabaseName"], asked["TableInput"]["Name"])
            if asked.get("VersionId") not in {None, str(held._current_version)}:
                raise JsonRESTError("ConcurrentModificationException", "Update table failed due to concurrent changes.")
            answer = real(self)
            if account.lost_answers:
                account.lost_answers -= 1
                raise JsonRESTError("InternalServiceException", "The answer is lost.", code=500)
            return answer

    return update_table


def _run(account: Account, real: Callable[[Any], str]) -> Callable[[Any], str]:
    def get_query_execution(self: Any) -> str:
        answer = json.loads(real(self))
        found = answer["QueryExecution"]
        # A query is asked after until it has ended: once here.
        account.asked.append(found["Query"])
        result = account.results.pop(0) if account.results else None
        if isinstance(result, str):
            found["Status"] |= {"State": "FAILED", "StateChangeReason": result}
            return json.dumps(answer)
        found["Status"]["State"] = "SUCCEEDED"
        found["Statistics"]["DataScannedInBytes"] = 10_000_000
        unloaded = re.search(r"TO '(s3://[^']+)'", found["Query"])
        if unloaded and result is not None:
            # No file at all where there is no row.
            if result.num_rows:
                _put(f"{unloaded[1]}part-0", _parquet(result))
            found["SubstatementType"] = "UNLOAD"
        return json.dumps(answer)

    return get_query_execution


def _parquet(rows: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(rows, buffer)
    return buffer.getvalue()


def _put(address: str, data: bytes) -> None:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    s3_backends[ACCOUNT]["aws"].put_object(bucket, key, data)


def _weigh(resources: Callable[[Mapping[str, Any]], Sequence[str]]) -> Callable[..., None]:
    """A check that the caller may do the action with each of the resources it touches."""

    def check(self: Any, resource: str = "*") -> None:
        for each in resources(json.loads(self.body or "{}")):
            try:
                self._authenticate_and_authorize_action(IAMRequest, each)
            except AccessDeniedError as error:
                message = f"{error.message} on resource: {each}"
                raise JsonRESTError("AccessDeniedException", message, code=400) from error

    return check


def _glue_resources(asked: Mapping[str, Any]) -> list[str]:
    """Glue asks for the catalog, the database, and the table where there is one.

    https://docs.aws.amazon.com/glue/latest/dg/glue-specifying-resource-arns.html
    """
    database = asked.get("DatabaseName") or asked.get("DatabaseInput", {}).get("Name")
    table = asked.get("TableInput", {}).get("Name") or asked.get("TableName")
    if "DatabaseName" in asked:
        table = table or asked.get("Name") or "*"
    else:
        database = database or asked.get("Name") or "*"
    found = [f"{ROOT}:catalog", f"{ROOT}:database/{database}"]
    return [*found, f"{ROOT}:table/{database}/{table}"] if table else found


def _athena_resources(asked: Mapping[str, Any]) -> list[str]:
    group = asked.get("WorkGroup", "primary")
    return [f"arn:aws:athena:{REGION}:{ACCOUNT}:workgroup/{group}"]
