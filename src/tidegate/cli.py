"""The command line: reads what is asked, lets others do it, and says what they say, with an exit code."""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate import __version__, agent_cli, app, fleet_cli, interpreter, restore_cli, workdir
from tidegate.clock import Clock
from tidegate.config import Config, parse
from tidegate.config.file import Watched
from tidegate.doors import Porch
from tidegate.errors import ConfigFaults, LedgerLost, Locked, NucleusGone, TidegateError
from tidegate.ledger import Books, Ledger
from tidegate.logs import set_up
from tidegate.view import render
from tidegate.view.explain import explain
from tidegate.view.snapshot import read

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = """\
exit codes:
  0    all is well
  1    some files failed (run --once)
  2    the command or the configuration is wrong
  3    no such file, or no agent ever ran here
  4    some files are held back or paused, or nothing is configured yet (run --once)
  5    time ran out, or the way to S3 is not available (run --once)
  6    the nucleus is gone: it has to start the component anew
  11   another agent owns the work directory"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and end the process with its exit code."""
    code = run(arguments)
    with_output_gone = sys.stdout.closed
    if not with_output_gone:
        _flush()
    os._exit(code)  # threads that wait for a dead Stream Manager must not keep the process


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code. Raises SystemExit for one that cannot be understood."""
    options = _parser().parse_args(arguments)
    try:
        return int(options.command(options))
    except ConfigFaults as err:
        print(f"the configuration has {len(err.faults)} fault(s):", file=sys.stderr)
        for sentence in err.faults:
            print(f"  {sentence}", file=sys.stderr)
        return 2
    except Locked as err:
        print(err, file=sys.stderr)
        return 11
    except NucleusGone as err:
        print(err, file=sys.stderr)
        return 6
    except TidegateError as err:
        print(err, file=sys.stderr)
        return 5
    except BrokenPipeError:
        return 0  # whoever read our output has seen enough
    except OSError as err:  # a folder or a file that cannot be used
        print(err, file=sys.stderr)
        return 2


def _flush() -> None:
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        pass


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tidegate",
        description="Moves files to S3, itself or by Stream Manager, and deletes what is proven stored."
        " As a Greengrass component it needs no command: it runs the agent on the component's configuration.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tidegate {__version__}")
    access = app.nucleus_access()
    if access:
        parser.set_defaults(command=lambda _: _component(*access))
    commands = parser.add_subparsers(required=access is None, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--work-dir",
        type=workdir.as_folder,
        default=app.default_work_dir(),
        metavar="DIR",
        help="the agent's own folder (default: $TIDEGATE_WORK_DIR, else %(default)s)",
    )

    _add_running(commands, shared)
    _add_asking(commands, shared)
    _add_mending(commands, shared)
    agent_cli.add(functools.partial(_command, commands, shared))
    restore_cli.add(commands, shared)
    fleet_cli.add(functools.partial(_command, commands, None))
    return parser


def _add_running(commands: Any, shared: argparse.ArgumentParser) -> None:
    run = _command(commands, shared, "run", _run, "run the agent", "tidegate run --config my.yaml")
    run.add_argument("--config", type=Path, required=True, metavar="FILE", help="the configuration, as YAML")
    run.add_argument(
        "--once", action="store_true", help="make one full pass, wait until all is settled, and exit"
    )
    run.add_argument(
        "--timeout",
        type=_seconds,
        metavar="S",
        help="with --once: give up after so many seconds (default: never)",
    )


def _add_asking(commands: Any, shared: argparse.ArgumentParser) -> None:
    status = _command(
        commands, shared, "status", _status, "show what waits, and why", "tidegate status --json"
    )
    status.add_argument("--json", action="store_true", help="print JSON")

    why = _command(
        commands,
        shared,
        "explain",
        _explain,
        "tell why a file has not gone yet",
        "tidegate explain /data/a.csv",
    )
    why.add_argument("path", metavar="PATH", help="the file")
    why.add_argument("--config", type=Path, metavar="FILE", help="ask this configuration, not the agent's")
    why.add_argument("--json", action="store_true", help="print JSON")


def _add_mending(commands: Any, shared: argparse.ArgumentParser) -> None:
    retry = _command(
        commands,
        shared,
        "retry",
        _retry,
        "try files in quarantine again, and do not wait",
        "tidegate retry --all",
    )
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("path", nargs="?", metavar="PATH", help="the file")
    which.add_argument("--all", action="store_true", help="every file")

    check = _command(
        commands,
        None,
        "check-config",
        _check_config,
        "check a configuration",
        "tidegate check-config my.yaml",
        "exit codes:\n  0    it is good\n  2    it has faults, or cannot be read",
    )
    check.add_argument("file", type=Path, metavar="FILE", help="the configuration, as YAML")


def _command(
    commands: Any,
    shared: argparse.ArgumentParser | None,
    name: str,
    command: Any,
    does: str,
    example: str,
    codes: str = EXIT_CODES,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        parents=[shared] if shared else [],
        help=does,
        description=f"{does[0].upper()}{does[1:]}.",
        epilog=f"example:\n  {example}\n\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=command)
    return parser


def _seconds(text: str) -> float:
    with contextlib.suppress(ValueError):
        if (value := float(text)) >= 0:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds; write for example 60")


def _run(options: argparse.Namespace) -> int:
    file, home = Watched(options.config), None
    watched: app.Watched = file
    raw = file.load()
    config = parse(raw)
    if config.home:
        from tidegate.home import open_home  # noqa: PLC0415 - few want it

        name, environment = app.thing_name(config), app.environment()
        watched, home = open_home(config.home, options.work_dir, file, name=name, environment=environment)
        raw = watched.load()
        config = parse(raw)
    set_up(config.log_level, config.log_format)
    if options.once and config.home and not (config.sources or config.downloads or config.sockets):
        print("the mothership has not configured this device yet, so no source runs;", file=sys.stderr)
        print("leave --once out until it has: a single pass does not call it", file=sys.stderr)
        return 4
    agent = app.App(
        config,
        options.work_dir,
        raw=raw,
        watched=None if options.once else watched,
        home=None if options.once else home,
        once=options.once,
        timeout=options.timeout,
    )
    return agent.run()


def _component(path: str, token: str) -> int:
    from tidegate.ipc import Configuration, Nucleus  # noqa: PLC0415 - brings the SDK along

    set_up("INFO", "Text")  # until it is known what is wanted
    nucleus, folder = Nucleus(path, token), app.default_work_dir()
    configuration = Configuration(nucleus)
    with contextlib.closing(Porch(nucleus, folder, app.thing_name)) as porch:
        kept = workdir.kept_configuration(folder)
        raw, config, faults = configuration.first_good(kept, porch.tell)
    set_up(config.log_level, config.log_format)
    agent = app.App(config, folder, raw=raw, watched=configuration, nucleus=nucleus, faults=faults)
    code = agent.run_patiently()
    if code == 0:  # for the classic nucleus it would mean that we are done for good
        interpreter.end_as_told()
    return code


def _status(options: argparse.Namespace) -> int:
    books = _books(options.work_dir)
    if books is None:
        return 3
    snapshot = read(options.work_dir)
    state = render.state(snapshot, books, now=Clock().wall())
    print(json.dumps(state, indent=2) if options.json else render.status(state))
    return 0


def _explain(options: argparse.Namespace) -> int:
    clock = Clock()
    config = _configuration(options)
    path = os.path.abspath(options.path)  # noqa: PTH100 - without following links
    choice = app.choice(config, clock) if config else None
    findings = (
        explain(
            path,
            config,
            choose=choice.of,
            thing=app.thing_name(config),
            never=app.own_folders(config, options.work_dir),
            moment=clock.now(),
            archives=workdir.archives_path(options.work_dir),
            namers=app.lookers(config, options.work_dir, clock),
        )
        if config and choice
        else []
    )
    books = _books(options.work_dir, quiet=config is not None)
    if books is None and config is None:
        return 3
    entries = books.promises(path) if books else []
    answer = render.explanation(path, findings, entries, books, read(options.work_dir), now=clock.wall())
    print(json.dumps(answer, indent=2) if options.json else render.explained(answer))
    return 0 if entries or os.path.lexists(path) else 3


def _retry(options: argparse.Namespace) -> int:
    if not workdir.ledger_path(options.work_dir).exists():
        return _no_agent(options.work_dir)
    path = None if options.all else os.path.abspath(options.path)  # noqa: PTH100
    count = agent_cli.retry(options.work_dir, path)
    if count is None:  # no agent runs: then it is for the next one
        ledger = Ledger(workdir.ledger_path(options.work_dir), jitter=float)
        count = ledger.retry(path, now=Clock().wall())
        ledger.close()
    print(
        f"{count} file(s) will be tried again at once"
        if count
        else "nothing of that was waiting to be tried again"
    )
    return 0 if count or options.all else 3


def _check_config(options: argparse.Namespace) -> int:
    config = parse(Watched(options.file).load())
    print(f"{options.file} is a good configuration.\n")
    print(render.configuration(config))
    return 0


def _configuration(options: argparse.Namespace) -> Config | None:
    if options.config:
        return parse(Watched(options.config).load())
    kept = workdir.kept_configuration(options.work_dir)
    return parse(kept) if kept else None


def _books(folder: Path, *, quiet: bool = False) -> Books | None:
    path = workdir.ledger_path(folder)
    if not path.exists():
        if not quiet:
            _no_agent(folder)
        return None
    try:
        return Books(path)
    except LedgerLost as err:
        print(f"the ledger {path} cannot be read: {err}", file=sys.stderr)
        return None


def _no_agent(folder: Path) -> int:
    print(f"no agent ever ran in {folder}; name its folder with --work-dir", file=sys.stderr)
    return 3
