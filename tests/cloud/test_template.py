"""The template passes AWS's own tools without a network, and gives nobody more than is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.cloud.rig import BIN, SIX, TEMPLATE, tool, translated
from tidegate.cloud import handlers
from tidegate.cloud.request import order_of
from tidegate.cloud.work import MANIFEST_BYTES, SOON

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

NOWHERE = "http://127.0.0.1:9"
OFFLINE = {
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "SAM_CLI_TELEMETRY": "0",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), NOWHERE),
}


def run(folder: Path, name: str, *arguments: str) -> str:
    """Run a program of .venv-sam that cannot reach the network and has no credentials."""
    environment = {key: it for key, it in os.environ.items() if not key.startswith("AWS_")}
    done = subprocess.run(
        [tool(name), *arguments],
        env=environment | OFFLINE | {"HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def resources() -> dict[str, Any]:
    """All resources that CloudFormation would make."""
    return dict(translated()["whole"])


def statements() -> list[tuple[str, dict[str, Any]]]:
    """Every statement of every policy, with the name of its resource."""
    found: list[tuple[str, dict[str, Any]]] = []

    def look(name: str, value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("Statement"), list):
                found.extend((name, one) for one in value["Statement"])
            for it in value.values():
                look(name, it)
        elif isinstance(value, list):
            for it in value:
                look(name, it)

    for name, resource in resources().items():
        look(name, resource)
    return found


def test_the_linters_find_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as both:  # each takes its time to start
        found = both.submit(run, tmp_path, "cfn-lint", str(TEMPLATE))
        said = both.submit(run, tmp_path, "sam", "validate", "--lint", "--template", str(TEMPLATE))
    assert found.result() == ""
    assert "is a valid SAM Template" in said.result()


@pytest.mark.skipif(
    (BIN / "python3").exists() and not (BIN / "python3.13").exists(),
    reason="`sam build` asks for the Python of the Lambdas, 3.13, which is not here",
)
def test_it_is_built_and_the_result_runs_with_nothing_but_what_lambda_has(tmp_path: Path) -> None:
    said = run(tmp_path, "sam", "build", "--template", str(TEMPLATE), "--build-dir", str(tmp_path / "made"))
    assert "Build Succeeded" in said
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]];"
        "foreign = 'awscrt awsiot cronsim greenlet inotify_simple stream_manager yaml'.split();"
        "sys.modules.update(dict.fromkeys(foreign));"
        "import importlib; module, _, name = sys.argv[2].rpartition('.');"
        "found = importlib.import_module(module); assert callable(getattr(found, name));"
        "assert found.__file__.startswith(sys.argv[1])"
    )
    functions = {name: it for name, it in resources().items() if it["Type"] == "AWS::Lambda::Function"}
    assert len(functions) == 4
    for name, function in functions.items():
        run(
            tmp_path,
            "python3",
            "-I",
            "-c",
            code,
            str(tmp_path / "made" / name),
            function["Properties"]["Handler"],
        )


def test_every_lambda_is_a_function_of_ours_on_a_python_that_is_supported() -> None:
    found = {}
    for name, it in resources().items():
        if it["Type"] == "AWS::Lambda::Function":
            assert it["Properties"]["Runtime"] == "python3.13"
            module, _, function = it["Properties"]["Handler"].rpartition(".")
            assert module == handlers.__name__
            assert callable(getattr(handlers, function))
            found[function] = name
    assert set(found) == {"change", "read", "tick", "receive"}


def test_nobody_gets_in_without_a_key() -> None:
    (api,) = (it for it in resources().values() if it["Type"] == "AWS::ApiGateway::RestApi")
    methods = {
        (path, method): operation
        for path, operations in api["Properties"]["Body"]["paths"].items()
        for method, operation in operations.items()
    }
    assert set(methods) == {
        ("/create-job", "post"),
        ("/jobs", "get"),
        ("/jobs/{id}", "get"),
        ("/jobs/{id}/cancel", "post"),
    }
    assert all(operation["security"] == [{"api_key": []}] for operation in methods.values())
    assert api["Properties"]["Body"]["securityDefinitions"]["api_key"]["name"] == "x-api-key"


def test_no_right_is_wider_than_it_has_to_be() -> None:
    everything = []
    for name, statement in statements():
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        if statement["Effect"] == "Allow":
            assert not any("*" in action for action in actions), (name, actions)
            if statement.get("Resource") == "*":
                everything.append((name, actions))
    assert everything == [("WorkPolicy", ["s3:CreateJob"])]
    restoring = {name for name, it in statements() if "s3:RestoreObject" in it["Action"]}
    assert restoring == {"BatchRole"}
    notifying = {name for name, it in statements() if "s3:PutBucketNotification" in it["Action"]}
    assert {(name, resources()[name]["Condition"]) for name in notifying} == {("NotifyPolicy", "Notify")}


def test_other_services_act_for_this_account_only() -> None:
    account = {"Ref": "AWS::AccountId"}
    served = [
        (name, it)
        for name, it in statements()
        if it["Effect"] == "Allow"
        and it.get("Principal", {}).get("Service") not in (None, ["lambda.amazonaws.com"])
    ]
    assert {name for name, _ in served} == {"BatchRole", "QueuePolicy", "HintsPolicy"}
    for name, statement in served:
        assert statement["Condition"]["StringEquals"]["aws:SourceAccount"] == account, name
        assert name == "BatchRole" or "aws:SourceArn" in statement["Condition"]["ArnEquals"], name


def test_what_goes_wrong_ends_in_one_queue_and_ticks_come_every_two_minutes() -> None:
    made = resources()
    letters = {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    assert made["TickFunction"]["Properties"]["DeadLetterConfig"]["TargetArn"] == letters
    assert made["Hints"]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"] == letters
    assert made["Subscription"]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"] == letters
    rates = [
        it["Properties"].get("ScheduleExpression")
        for it in made.values()
        if it["Type"] == "AWS::Events::Rule"
    ]
    assert sorted(rates, key=str) == [None, "rate(2 minutes)"]


def test_there_is_one_table_whose_rows_expire() -> None:
    (table,) = (it for it in resources().values() if it["Type"] == "AWS::DynamoDB::Table")
    assert table["Properties"]["TimeToLiveSpecification"] == {"AttributeName": "Expires", "Enabled": True}
    assert "s3:ObjectCreated" not in json.dumps(resources())


def test_the_order_and_the_answer_that_are_documented_are_those_of_the_code() -> None:
    text = (TEMPLATE.parents[1] / "docs" / "CLOUD.md").read_text("utf-8")
    order, answer = (json.loads(it) for it in re.findall(r"```json\n(.*?)```", text, re.DOTALL))
    assert order_of(order).token == order["clientToken"]
    assert set(answer) == SIX
    assert f"{SOON:,} objects" in text
    assert f"{MANIFEST_BYTES // 2**20} MiB" in text
