"""The other side of a customizer: runs code of others in a process that can do next to nothing.

Started as a script, by its path, with an empty environment; imports nothing of ours. It reads one line of
JSON that says what to load, and then one for each batch of files. For the loading, and for each file, it
writes one line of JSON: a number and a text, null, or a map with the `error`. Each line is written at once,
so that the other side knows which file it died of. It is no wall against a fault of an engine: what is behind
it has no credentials either.
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

CALL_SECONDS = 0.05
"""Processor time of one call, so that a device that is busy is no reason to fail."""

LOAD_SECONDS = 1.0
LONGEST_ANSWER = 4096  # characters; four times what a key may have
LONGEST_ERROR = 300
MEMORY_BYTES = 512 * 2**20
SCRIPT_BYTES = 32 * 2**20
"""What JavaScript may take; for the others the limit of the process has to do."""

CALL_DEPTH = 200

if TYPE_CHECKING:
    Call = Callable[[str, dict[str, Any]], Any]
    Load = Callable[[str, Any], Call]

_PRELUDE = "var module = {exports: {}}, exports = module.exports;"
_ENTRY = """
(function () {
  var found = module.exports;
  if (typeof found !== 'function') found = found && found.customize;
  if (typeof found !== 'function' && typeof customize === 'function') found = customize;
  if (typeof found !== 'function') throw new TypeError('the file exports no function customize');
  var settings = JSON.parse(SETTINGS);
  return function (name, facts) {
    var stat = JSON.parse(facts);
    stat.mtimeMs = stat.mtime_ns / 1e6;
    stat.mtime = new Date(stat.mtimeMs);
    stat.isFile = function () { return true; };
    stat.isDirectory = function () { return false; };
    var key = found(name, settings, stat);
    if (key === undefined || key === null || key === false || key === '') return null;
    if (typeof key !== 'string') throw new TypeError('it returned a ' + typeof key + ' and no text');
    return key;
  };
})()
"""
_STAR_ENTRY = "\ndef tidegate_entry(name, stat):\n    return customize(name, SETTINGS, stat)\n"


class Late(Exception):  # noqa: N818 - it is what has happened
    """A call has had its time."""


def starlark() -> Load:
    """Make a loader of Starlark. Globals and settings are frozen, so no call leaves traces for the next."""
    import starlark as engine  # noqa: PLC0415 - each process needs one engine

    def load(code: str, settings: Any) -> Call:
        module = engine.Module()
        module["SETTINGS"] = settings
        until = time.process_time() + LOAD_SECONDS

        def is_late() -> bool:
            return time.process_time() > until

        options = engine.EvalOptions(check_cancelled=is_late, max_callstack_size=CALL_DEPTH)
        parsed = engine.parse("customizer.star", code + _STAR_ENTRY)
        engine.eval_with(options, module, parsed, engine.Globals.standard())
        frozen = module.freeze()

        def call(name: str, facts: dict[str, Any]) -> Any:
            nonlocal until
            until = time.process_time() + CALL_SECONDS
            try:
                return frozen.call_with(options, "tidegate_entry", name, facts).value
            except engine.StarlarkError as error:
                if is_late():
                    raise Late from error
                raise

        return call

    return load


def javascript() -> Load:
    """Make a loader of JavaScript: as node would, but with `module` and `exports` and nothing else."""
    import quickjs  # noqa: PLC0415 - each process needs one engine

    def load(code: str, settings: Any) -> Call:
        def begin() -> Any:
            context = quickjs.Context()
            context.set_memory_limit(SCRIPT_BYTES)
            context.set_time_limit(LOAD_SECONDS)
            context.set("SETTINGS", json.dumps(settings))
            context.eval(_PRELUDE)
            context.eval(code)
            entry = context.eval(_ENTRY)
            context.set_time_limit(CALL_SECONDS)
            return entry

        entry = begin()

        def call(name: str, facts: dict[str, Any]) -> Any:
            nonlocal entry
            try:
                return entry(name, json.dumps(facts))
            except quickjs.JSException as error:
                what = str(error)
                if what != "null" and not what.startswith("InternalError"):
                    raise
                entry = begin()  # it was broken off in the middle
                if "interrupted" in what:
                    raise Late from error
                raise MemoryError from error

        return call

    return load


def expressions() -> Load:
    """Make a loader of expressions, a JSON list. A call tells which one matches first, and its groups."""
    signal.signal(signal.SIGPROF, _stop)

    def load(code: str, settings: Any) -> Call:  # noqa: ARG001 - they have none
        patterns = [(number, re.compile(text)) for number, text in json.loads(code)]

        def call(name: str, facts: dict[str, Any]) -> Any:  # noqa: ARG001 - these look at names only
            signal.setitimer(signal.ITIMER_PROF, CALL_SECONDS)
            try:
                for number, pattern in patterns:
                    if found := pattern.fullmatch(name):
                        return json.dumps([number, found.groupdict("")])
                return None
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)

        return call

    return load


ENGINES: dict[str, Callable[[], Load]] = {
    "Starlark": starlark,
    "JavaScript": javascript,
    "Expressions": expressions,
}


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Late


def confine() -> None:
    """Give up what code of others has no use for: memory, new descriptors, files, processes, dumps."""
    for what, limit in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_NOFILE, 3),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (limit, limit))


def sentence(error: BaseException) -> str:
    """Say in one line what was wrong."""
    if isinstance(error, Late):
        return f"it took more than {CALL_SECONDS * 1000:.0f} ms of processor time"
    if isinstance(error, MemoryError):
        return "it took too much memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("error:")), lines[0] if lines else "")
    return (told.removeprefix("error:").strip() or type(error).__name__)[:LONGEST_ERROR]


def answer(call: Call, item: Sequence[Any]) -> Any:
    """Ask for one file. Whatever happens becomes the answer."""
    name, facts = item
    try:
        found = call(name, facts)
    except Exception as error:  # noqa: BLE001 - it may be anything
        return {"error": sentence(error)}
    if found is None or found == "":
        return None
    if not isinstance(found, str):
        return {"error": f"it returned a {type(found).__name__} and no text"}
    if len(found) > LONGEST_ANSWER:
        return {"error": f"it returned a key of {len(found)} characters"}
    return found


def say(number: int, message: Any) -> None:
    """Write one line at once."""
    sys.stdout.write(f"[{number}, {json.dumps(message)}]\n")
    sys.stdout.flush()


def main() -> None:
    """Load, and answer until there are no more questions."""
    wanted = json.loads(sys.stdin.readline())
    try:
        load = ENGINES[wanted["engine"]]()
        confine()
        call = load(wanted["code"], wanted["settings"])
    except ImportError as error:
        remedy = "pip install '.[customizers]' in a copy of tidegate's repository"
        say(0, {"error": f"the package {error.name} is not installed; {remedy}"})
        return
    except Exception as error:  # noqa: BLE001 - it may be anything
        say(0, {"error": sentence(error)})
        return
    say(0, None)
    items = (item for line in sys.stdin for item in json.loads(line))
    for number, item in enumerate(items, 1):
        say(number, answer(call, item))


if __name__ == "__main__":
    main()
