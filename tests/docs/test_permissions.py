"""The S3 policies of docs/reference/permissions.md, enforced by a server: enough for all that their heading says, and no right unused."""

import json
import logging
import re
from datetime import UTC, date, datetime, timedelta
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path

import boto3
import pytest
from moto import settings
from moto.core.responses import ActionAuthenticatorMixin
from moto.iam.access_control import S3IAMRequest

import market_data
from market_data.config.retention import KINDS
from market_data.core.errors import LakeError
from market_data.datasets.registry import dataset
from market_data.lake.layout import Layout
from market_data.lake.s3 import S3Access
from market_data.lake.store import Lake
from market_data.maintenance.compaction import compact
from market_data.maintenance.foldable import Selection
from market_data.maintenance.ledger_folding import fold_ledger
from market_data.maintenance.retention import apply_retention
from market_data.pipeline.report_document import delete_flag
from market_data.providers.base import ProviderConfig
from market_data.providers.mock.hook import MockHook
from sandbox.s3 import S3Server
from tests.pipeline.runs import World, feed_of

PAGE = Path(__file__).parents[2] / "docs/reference/permissions.md"
POLICIES = re.findall(r"(?ms)^### ([^\n]+)\n.*?^```json\n(.*?)^```", PAGE.read_text())
RUNS, MAINTENANCE, READERS = (json.loads(text)["Statement"] for _, text in POLICIES)
SYMBOLS, SESSIONS = ["AAPL", "IBM"], [date(2024, 1, day) for day in (2, 3, 4)]
NAMES = count()


@pytest.fixture
def guarded(monkeypatch):
    """A server that lets a user do what a policy allows; ``requested`` has each right that was used."""
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = S3Server()
    server.requested = set()
    server.bucket = f"guarded-{next(NAMES)}"
    login = {"endpoint_url": server.endpoint, "region_name": "us-east-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}
    boto3.client("s3", **login).create_bucket(Bucket=server.bucket)
    iam = boto3.client("iam", **login)

    def lake(*policies):
        user = f"user-{next(NAMES)}"
        ActionAuthenticatorMixin.request_count = 0
        monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))
        iam.create_user(UserName=user)
        key = iam.create_access_key(UserName=user)["AccessKey"]
        statements = [statement for policy in policies for statement in policy]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements}).replace(":::market-data", f":::{server.bucket}")
        iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=document)
        monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"])
        return Lake.open(f"s3://{server.bucket}", S3Access(server.endpoint, "us-east-1", session))

    judged = S3IAMRequest.check_action_permitted

    def recorded(request, resource):
        bulk = request._action == "s3:DeleteObject" and "/" not in resource  # S3 judges each key of it, moto the bucket
        keys = re.findall("<Key>(.*?)</Key>", bytes(request._body).decode()) if bulk else []
        for one in [f"{resource}/{key}" for key in keys] or [resource]:
            judged(request, one)  # raises where it is not allowed
            server.requested.add((request._action, one.replace(f":::{server.bucket}", ":::market-data")))

    monkeypatch.setattr(S3IAMRequest, "check_action_permitted", recorded)
    server.lake = lake
    yield server
    server.stop()


def rights(*policies):
    """Return each pair of an action and a resource that the policies allow."""
    listed = lambda value: [value] if isinstance(value, str) else value  # noqa: E731
    return {
        (action, resource)
        for policy in policies
        for statement in policy
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }


def unused(server, *policies):
    return {
        (action, pattern)
        for action, pattern in rights(*policies)
        if not any(action == used and fnmatchcase(resource, pattern) for used, resource in server.requested)
    }


def run_of(lake, folder, seed, **params):
    config = ProviderConfig("mock_default", "", extra={"calls_per_minute_per_slot": 60_000, "limits": [], "seed": seed})
    world = World(feed_of("mock_ohlcv_1d"), folder, lambda: MockHook(config=config))
    world.lake = lake
    _, report = world.run(SESSIONS, SYMBOLS, world.context(f"run-{seed}", **params))
    assert report["red"] == []
    return report


def read(lake):
    return market_data.read(SYMBOLS, SESSIONS[0], SESSIONS[-1], provider="mock", lake=lake)


def test_the_policies_are_enough_and_no_right_is_unused(guarded, tmp_path):
    assert [name for name, _ in POLICIES] == ["Runs of feeds", "Maintenance", "Readers"]
    lake = guarded.lake(RUNS)
    run_of(lake, tmp_path, 0)
    before = read(lake)
    report = run_of(lake, tmp_path, 1, force=True)  # other values: corrections
    assert not read(lake).equals(before)
    delete_flag(lake, report["key"])
    assert not lake.list(report["key"].replace(".json", ".flag"))
    assert unused(guarded, RUNS) == set()

    guarded.requested.clear()
    rows = read(guarded.lake(READERS))
    assert len(rows) == 6
    assert market_data.coverage(SYMBOLS, SESSIONS[0], SESSIONS[-1], provider="mock", lake=guarded.lake(READERS)).num_rows == 6
    assert unused(guarded, READERS) == set()

    selection = Selection(dataset("ohlcv-1d"), "mock", Layout())
    now = datetime.now(UTC) + timedelta(days=60)
    with pytest.raises(LakeError, match="AccessDenied"):
        compact(lake, selection, now)
    assert read(lake).equals(rows)

    guarded.requested.clear()
    keeper = guarded.lake(RUNS, MAINTENANCE)
    assert compact(keeper, selection, now).deleted == 6
    assert fold_ledger(keeper, "ohlcv-1d", "mock", now).deleted > 0
    for folder in KINDS.values():
        keeper.put_new(f"{folder}/provider=mock/old", b"{}")
    assert set(apply_retention(keeper, dict.fromkeys(KINDS, 7), now).objects) >= set(KINDS) - {"staging", "receipts"}
    keeper.delete("receipts/provider=mock/old")  # retention keeps what it cannot read
    assert read(keeper).equals(rows)
    assert unused(guarded, MAINTENANCE) == set()


@pytest.mark.parametrize("left_out", sorted(rights(RUNS)), ids=lambda right: " ".join(right) if isinstance(right, tuple) else right)
def test_without_any_of_its_rights_a_run_ends_in_an_error_that_names_the_store(guarded, tmp_path, left_out):
    granted = [{"Effect": "Allow", "Action": action, "Resource": where} for action, where in rights(RUNS) - {left_out}]
    lake = guarded.lake(granted)
    with pytest.raises(LakeError, match=r"Access ?Denied"):
        delete_flag(lake, run_of(lake, tmp_path, 0)["key"])
