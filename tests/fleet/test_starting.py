"""The start of a mothership: what keeps it from that is told by the name of its option, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
import yaml

import tidegate
from tests.fleet.rig import ENVIRONMENT, HOST, Process, free_port
from tests.store.talking import make_certificate
from tests.whole.shelf import eventually
from tidegate import cli

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fleet.rig import Mothership


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            "--listen 127.0.0.1:99999 --tls-cert none.pem --grant ./nix.sh --mqtt-login-file none",
            [
                '--listen: "127.0.0.1:99999" is no address with a port from 1 to 65535',
                "--tls-cert: none.pem cannot be read: No such file or directory",
                '--grant: "./nix.sh" is no program that can be run',
                "--mqtt-login-file: none cannot be read",
            ],
        ),
        (
            "--listen 127.0.0.1:0 --tls-cert HERE/ca.pem --grant HERE/text",
            ["--listen: ", "ca.pem cannot be used with the key in the same file", "--grant: "],
        ),
        ("--tls-cert HERE/ca.pem --tls-key HERE/text", ["--tls-cert: ", "with the key in HERE/text"]),
        ("--tls-key HERE/server.pem", ["--tls-key: HERE/server.pem is of no use alone; write --tls-cert"]),
        ("--listen 127.0.0.1:TAKEN", ["--listen: 127.0.0.1:TAKEN cannot be had: Address already in use"]),
        ("--db HERE", ["--db: HERE cannot be used: unable to open database file"]),
        ("--db HERE/text", ["--db: HERE/text cannot be used: file is not a database"]),
        ("--mqtt mqtts://h --mqtt-ca HERE/text", ["--mqtt-ca: cannot read the CA bundle HERE/text"]),
    ],
)
def test_what_cannot_start_names_each_option_and_leaves_nothing_behind(
    folder: Path, arguments: str, words: list[str]
) -> None:
    make_certificate(folder)
    (folder / "text").write_text("this is text, and no more than that\n" * 50)
    before = sorted(folder.rglob("*"))
    with socket.create_server((HOST, 0)) as taken:
        port = str(taken.getsockname()[1])

        def filled(text: str) -> str:
            return text.replace("TAKEN", port).replace("HERE", str(folder))

        usual = f"mothership --db HERE/fleet.db --listen {HOST}:{free_port()} {arguments}"
        run = [sys.executable, "-m", "tidegate", *filled(usual).split()]
        done = subprocess.run(run, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=20)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for each in words:
        assert filled(each) in done.stderr
    assert sorted(folder.rglob("*")) == before


def test_a_token_that_is_too_short_is_named_with_its_option(folder: Path) -> None:
    (folder / "word").write_text("short\n")
    run = ["mothership", "--db", str(folder / "f.db"), "--admin-token-file", str(folder / "word")]
    one = Process(folder, "short", *run, "--listen", f"{HOST}:{free_port()}")
    assert one._process.wait(timeout=20) == 2
    assert "--admin-token-file: the token in" in one.log


def test_it_serves_with_a_certificate_and_its_key_in_one_file(folder: Path) -> None:
    make_certificate(folder)
    listen = f"{HOST}:{free_port()}"
    run = ["mothership", "--db", str(folder / "f.db"), "--tls-cert", str(folder / "server.pem")]
    one = Process(folder, "tls", *run, "--listen", listen)

    def answers() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return (
                requests.get(f"https://{listen}/", verify=str(folder / "ca.pem"), timeout=5).status_code
                == 401
            )
        return False

    try:
        eventually(answers)
    finally:
        one.kill()


def test_it_is_interrupted_without_a_word_of_python(mothership: Callable[..., Mothership]) -> None:
    home = mothership()
    assert home.interrupt() == 0
    assert "Traceback" not in home.log


@pytest.mark.parametrize(
    ("more", "extras"), [([], "mothership"), (["--mqtt", "mqtt://h"], "mothership,mqtt")]
)
def test_packages_that_are_not_there_are_named_with_what_installs_them(
    folder: Path, more: list[str], extras: str
) -> None:
    for path in Path(yaml.__file__).parents[1].iterdir():
        if path.name not in {"starlette", "paho"}:
            (folder / path.name).symlink_to(path)
    run = [sys.executable, "-S", "-m", "tidegate", "mothership", "--db", str(folder / "f.db"), *more]
    source = str(Path(tidegate.__file__).parents[1])
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{source}{os.pathsep}{folder}"}
    done = subprocess.run(run, capture_output=True, text=True, check=False, env=environment, timeout=20)
    assert done.returncode == 2
    missing = "starlette, paho" if more else "starlette"
    remedy = f"pip install '.[{extras}]' in a copy of tidegate's repository"
    assert done.stderr == f"{missing}: not installed; {remedy}\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("mothership", "2    an option is wrong"),
        ("import-s3-ingestor", "1    it is written, but something has no equivalent"),
    ],
)
def test_the_help_of_a_command_lists_its_own_exit_codes(
    capsys: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    with pytest.raises(SystemExit):
        cli.run([command, "--help"])
    said = capsys.readouterr().out
    assert words in said
    assert "run --once" not in said
