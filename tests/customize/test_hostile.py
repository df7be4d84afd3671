"""Customizers that are broken or mean harm: the file stays, it is told, and the others go on."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.customize.helpers import JS, STAR, names
from tidegate.customize.process import DIED_OF_IT, GIVEN_UP, MOST_DEATHS, CannotLoad, Worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidegate.customize import Namer

STARLARK = {
    "an endless loop": "    for i in range(1 << 30):\n        pass\n",
    "loops in loops": "    for i in range(1 << 15):\n        [x for x in range(1 << 15)]\n",
    "a memory bomb": "    x = ['a' * 1000]\n    for i in range(100):\n        x = x + x\n    return x[0]\n",
    "one huge text": "    return name * (1 << 30)\n",
    "a long key": "    return 'k' * 5000\n",
    "a number": "    return 7\n",
    "a list": "    return [name]\n",
    "a truth": "    return False\n",
    "another error": "    return 1 // 0\n",
    "its own failure": "    fail('no')\n",
    "a missing entry": "    return settings['none']\n",
    "recursion": "    return customize(name, settings, stat)\n",
    "a folder above": "    return 'a/../../b'\n",
    "a key of slashes": "    return '///'\n",
    "a dot": "    return './x'\n",
    "a change of its settings": "    settings['x'] = 1\n    return name\n",
}
JAVASCRIPT = {
    "an endless loop": "while (true);",
    "an endless expression": "return /^(a+)+$/.test('a'.repeat(60) + 'b') ? 'x' : 'y';",
    "a memory bomb": "var a = []; while (true) a.push('xxxxxxxxxx' + a.length);",
    "one huge text": "return 'x'.repeat(1 << 28);",
    "a huge number": "return String(2n ** 100000000n);",
    "a long key": "return 'k'.repeat(5000);",
    "a number": "return 7;",
    "a list": "return [name];",
    "a truth": "return true;",
    "a promise": "return Promise.resolve(name);",
    "an exception": "throw new Error('no');",
    "an exception that is nothing": "throw null;",
    "an exception that bites": "throw {toString: function () { while (true); }};",
    "recursion": "return module.exports(name, settings, stat);",
    "a text that is none": "return {toString: function () { return 'x'; }};",
    "a folder above": "return '../' + name;",
    "reading a file": "return require('fs').readFileSync('/etc/passwd', 'utf8');",
    "starting a program": "return require('child_process').execSync('id').toString();",
    "ending the process": "process.exit(0);",
    "reading the environment": "return process.env.PATH;",
    "a request": "return fetch('http://127.0.0.1/');",
    "an import": "return import('os');",
    "a module of the engine": "return std.getenv('PATH') + os.getcwd();",
    "writing": "print('flood'); console.log('flood');",
}


def guarded(code: str, ending: str) -> str:
    """Have the code do its harm for one file only."""
    if ending == "star":
        return f"{STAR}    if name != 'evil':\n        return name\n{code}"
    return f"{JS} if (name !== 'evil') return name; {code} }};"


def judge(namer: Namer) -> str:
    """See that the evil file stays and is told, that it is quick, and that its neighbours get their keys."""
    namer_is_loaded = names(namer, "first")
    began = time.monotonic()
    before, evil, after = names(namer, "before", "evil", "after")
    assert time.monotonic() - began < 5
    assert [one.key for one in (*namer_is_loaded, before, after)] == ["first", "before", "after"]
    assert (evil.key, evil.ignored) == ("", False)
    assert evil.problem
    assert evil.problem.isprintable()
    return evil.problem


@pytest.mark.parametrize("harm", STARLARK)
def test_harm_in_starlark(customized: Callable[..., Namer], harm: str) -> None:
    problem = judge(customized(guarded(STARLARK[harm], "star")))
    if "loop" in harm:
        assert "50 ms" in problem


@pytest.mark.parametrize("harm", JAVASCRIPT)
def test_harm_in_javascript(customized: Callable[..., Namer], harm: str) -> None:
    problem = judge(customized(guarded(JAVASCRIPT[harm], "js"), "js"))
    if "endless" in harm:
        assert "50 ms" in problem
    if "huge text" in harm:
        assert "too much memory" in problem
    if "long key" in harm:
        assert "5000 characters" in problem


@pytest.mark.parametrize(
    "name", ["open", "load", "exec", "eval", "__import__", "getattr", "dir", "print", "struct"]
)
def test_starlark_has_no_way_to_the_host(customized: Callable[..., Namer], name: str) -> None:
    namer = customized(f"{STAR}    return {name}('/etc/passwd')\n")
    (found,) = names(namer, "a")
    assert found.problem
    assert not found.ignored


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("def customize(", "star"),
        ("x = 1\n", "star"),
        ("load('a.star', 'b')\n" + STAR + "    return name\n", "star"),
        ("x = [i for i in range(1 << 30)]\n" + STAR + "    return name\n", "star"),
        ("x = ('a' * (1 << 40))\n" + STAR + "    return name\n", "star"),
        ("module.exports = 7;", "js"),
        ("while (true);", "js"),
        ("throw new Error('no')", "js"),
        ("module.exports = function (", "js"),
        ("var a = []; while (true) a.push('x' + a.length);", "js"),
    ],
)
def test_code_that_does_not_load_keeps_every_file(
    customized: Callable[..., Namer], code: str, ending: str
) -> None:
    namer = customized(code, ending)
    for found in names(namer, "a", "b"):
        assert "the customizer cannot be used" in found.problem
        assert (found.key, found.ignored) == ("", False)
    assert namer.trouble


def test_nothing_and_empty_text_mean_to_ignore_and_nothing_else_does(
    customized: Callable[..., Namer],
) -> None:
    star = customized(f"{STAR}    return {{'none': None, 'empty': ''}}.get(name, name)\n")
    javascript = customized(f"{JS} return {{none: null, empty: '', false: false}}[name]; }};", "js")
    assert [one.ignored for one in names(star, "none", "empty", "other")] == [True, True, False]
    assert [one.ignored for one in names(javascript, "none", "empty", "false", "other")] == [True] * 4


def test_one_call_leaves_no_trace_for_the_next_one(customized: Callable[..., Namer]) -> None:
    namer = customized(f"seen = []\n{STAR}    seen.append(name)\n    return name\n")
    assert "Immutable" in names(namer, "a")[0].problem or "frozen" in names(namer, "a")[0].problem


def test_a_customizer_that_crashes_on_everything_does_not_hold_up_a_scan(
    customized: Callable[..., Namer],
) -> None:
    namer = customized(f"{STAR}    return name * (1 << 30)\n")
    found = names(namer, *(f"file{number}" for number in range(40)))
    assert [one.problem for one in found] == [DIED_OF_IT] * MOST_DEATHS + [GIVEN_UP] * 30
    began = time.monotonic()
    assert names(namer, *(f"file{number}" for number in range(40)), steady=30) == found
    assert time.monotonic() - began < 0.05  # nobody was asked again
    later = names(namer, *(f"file{number}" for number in range(40)), steady=61)
    assert all(one.problem for one in later)


def test_a_worker_that_is_killed_costs_one_file_at_most(customized: Callable[..., Namer]) -> None:
    namer = customized(f"{STAR}    return name\n")
    names(namer, "a")
    assert namer._worker is not None
    assert namer._worker._process is not None
    os.kill(namer._worker._process.pid, 9)
    namer._worker._process.wait()
    assert [one.key for one in names(namer, "b", "c")] == ["b", "c"]


def test_a_worker_has_no_environment_no_files_and_no_children(customized: Callable[..., Namer]) -> None:
    namer = customized(f"{STAR}    return name\n")
    names(namer, "a")
    assert namer._worker is not None
    assert namer._worker._process is not None
    pid = namer._worker._process.pid
    process = Path(f"/proc/{pid}")
    assert b"=" not in (process / "environ").read_bytes().replace(b"LC_CTYPE=C.UTF-8\0", b"")
    assert str((process / "cwd").readlink()) == "/"
    assert sorted(path.name for path in (process / "fd").iterdir()) == ["0", "1", "2"]
    lines = (process / "limits").read_text(encoding="ascii").splitlines()[1:]
    limits = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert limits["Max open files"] == ["3", "3"]
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max processes"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max address space"] == [str(512 * 2**20)] * 2


PROGRAMS = {
    "a flood": "print('x' * 70000 * 100)",
    "a flood of lines": "print('[1, null]\\n' * 100000)",
    "answers that were not asked for": 'print(\'[1, "a"]\\n[2, "b"]\\n[3, "c"]\')',
    "wrong numbers": "print('[7, \"a\"]')",
    "no JSON": "print('hello')",
    "a wrong kind": 'print(\'[1, {"key": "a"}]\')',
    "deep nesting": "print('[' * 60000)",
    "silence": "sys.stdin.read()",
    "an end": "sys.exit(0)",
    "an end by a signal": "os.kill(os.getpid(), 11)",
}


@pytest.mark.parametrize("behaviour", PROGRAMS)
def test_a_worker_that_was_taken_over_can_only_fail(tmp_path: Path, behaviour: str) -> None:
    program = tmp_path / "worker.py"
    program.write_text(
        "import os, sys\nsys.stdin.readline(); print('[0, null]', flush=True); sys.stdin.readline()\n"
        f"{PROGRAMS[behaviour]}; sys.stdout.flush(); sys.stdin.read()\n",
        encoding="utf-8",
    )
    worker = Worker("Starlark", "", {}, program=program)
    began = time.monotonic()
    answers = worker.ask([("a", {}), ("b", {})][: 1 if behaviour == "silence" else 2])
    worker.close()
    assert time.monotonic() - began < 15
    is_right_at_first = behaviour in {"a flood of lines", "answers that were not asked for"}
    assert isinstance(answers[0], dict) != is_right_at_first
    assert all(isinstance(answer, dict) for answer in answers[1:])


def test_a_worker_that_does_not_read_is_not_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "worker.py"
    program.write_text(
        "import sys, threading\nsys.stdin.readline(); print('[0, null]', flush=True); threading.Event().wait()\n",
        encoding="utf-8",
    )
    worker = Worker("Starlark", "", {}, program=program)
    worker.load()
    began = time.monotonic()
    assert worker._exchange("x" * 500_000, 1, 0.2) == []
    worker.close()
    assert time.monotonic() - began < 3


def test_a_worker_that_cannot_start_is_told(tmp_path: Path) -> None:
    worker = Worker("Starlark", "", {}, program=tmp_path / "none.py")
    with pytest.raises(CannotLoad):
        worker.load()
