"""The shape of the code: imports point up only, each foreign library has one door, and nothing is large."""

from __future__ import annotations

import ast
import fnmatch
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = Path(__file__).parent.parent / "src"
ROOT = SOURCE / "tidegate"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}

LAYERS = (
    # A part may import the parts in the rows above its own, and nothing else. Parts are modules of tidegate
    # or packages; "" is the package tidegate itself, which holds the version.
    ("", "errors"),
    ("model",),  # nouns
    ("config", "clock", "logs", "interpreter"),  # what a user can say; and what a line of the log is made of
    ("policy", "loop"),  # decisions: pure functions of values and the moment; and threads that repeat a step
    ("ledger", "disk", "store", "ipc"),  # memory and bytes on disk; what S3 looks like; and the nucleus
    ("spool",),  # bytes on disk that are ours
    ("carry", "archive", "restore"),  # ways to keep a promise; many files as one; and back from the archives
    ("customize",),  # what files are called by rules and by code of others
    ("flows", "fetch"),  # what moves promises on
    ("health", "workdir", "view"),
    ("restoring",),  # objects come back because somebody asks an agent
    ("agent", "outfit", "ground"),
    ("routes",),  # what can be asked, and the answers
    ("doors", "home", "inward"),  # ways in for requests, and out for events; calls to a mothership
    ("mothership", "importing", "cloud"),  # the other end of those; and configurations of others
    ("app",),  # the only place that builds things and reads the environment
    ("agent_cli", "restore_cli", "fleet_cli"),  # commands
    ("cli",),
    ("__main__",),
)
DOORS = {
    # Each foreign library is imported by the modules named here (`*`: any in there) and by no other.
    "sqlite3": {"tidegate.ledger.database"},
    "stream_manager": {"tidegate.carry.streams.client"},
    "inotify_simple": {"tidegate.disk.watch"},
    "yaml": {"tidegate.config.file", "tidegate.importing"},
    "cronsim": {"tidegate.config.schedule"},
    "random": {"tidegate.app"},
    "boto3": {"tidegate.cloud.table"},
    "botocore": {f"tidegate.store.{one}" for one in ("credentials", "endpoints", "messages", "wire")},
    "awsiot": {"tidegate.ipc.nucleus"},
    "starlette": {"tidegate.mothership.web"},
    "uvicorn": {"tidegate.mothership.serve"},
    "jinja2": {"tidegate.mothership.page"},
    "paho": {"tidegate.home.mqtt", "tidegate.mothership.bridge"},
    "starlark": {"tidegate.customize.worker"},
    "quickjs": {"tidegate.customize.worker"},
    "greenlet": {"tidegate.store.hub"},
    "awscrt": {"tidegate.ipc.nucleus", "tidegate.store.crt"},
}
CLOCKS = {
    # Who reads which clock; everybody else is told the moment. CPU time is nobody's business but the scan's.
    # The store may: a request is signed with the time and a connection ages, whatever moment a caller is in.
    "time.time": {"tidegate.clock", "tidegate.store.*"},
    "time.monotonic": {"tidegate.clock", "tidegate.logs", "tidegate.store.*"},
    "time.sleep": set[str](),
    "datetime.now": set[str](),
    "os.environ": {"tidegate.app", "tidegate.cloud.handlers"},
    "os.getenv": set[str](),
}
LONGEST_MODULE = 450
LONGEST_FUNCTION = 60


def imports(name: str) -> Iterator[str]:
    """Name everything that a module imports, also for type checking only, down to modules of ours."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: write relative imports out"
            assert node.module is not None
            for alias in node.names:
                module = f"{node.module}.{alias.name}"
                yield module if module in MODULES else node.module


def allowed(module: str, patterns: set[str]) -> bool:
    return any(fnmatch.fnmatchcase(module, pattern) for pattern in patterns)


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def at_run_time(name: str) -> set[str]:
    """Name the modules of ours that are imported when this one is: not those for type checking only."""
    skipped = {
        id(child)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            found |= {f"{node.module}.{alias.name}" for alias in node.names} & MODULES.keys() or {
                str(node.module)
            } & MODULES.keys()
    return found


def test_every_part_has_its_row_and_every_row_has_only_parts() -> None:
    rows = [one for row in LAYERS for one in row]
    assert sorted(rows) == sorted(set(rows))
    assert {part(module) for module in MODULES} == set(rows)


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_up_only(module: str) -> None:
    rank = {one: number for number, row in enumerate(LAYERS) for one in row}
    mine = part(module)
    wrong = {
        other
        for other in imports(module)
        if other.split(".")[0] == "tidegate" and part(other) != mine and rank[part(other)] >= rank[mine]
    }
    assert wrong == set()


def test_no_modules_import_each_other_in_a_circle() -> None:
    # That an inner module imports its own package is no circle: the package only passes names on.
    graph = {name: {it for it in at_run_time(name) if not name.startswith(f"{it}.")} for name in MODULES}
    while leaves := {name for name, others in graph.items() if not others & graph.keys()}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    assert graph == {}


@pytest.mark.parametrize("library", DOORS)
def test_a_foreign_library_is_imported_through_its_door_only(library: str) -> None:
    users = {name for name in MODULES for other in imports(name) if f"{other}.".startswith(f"{library}.")}
    assert {name for name in users if not allowed(name, DOORS[library])} == set()
    assert users or not DOORS[library] or library == "botocore"


@pytest.mark.parametrize("call", CLOCKS)
def test_clocks_and_the_environment_are_read_in_few_places(call: str) -> None:
    users = {
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) == call
    }
    assert {name for name in users if not allowed(name, CLOCKS[call])} == set()
    module, _, attribute = call.partition(".")
    hidden = [
        name
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module == module
        and attribute in {alias.name for alias in node.names}
    ]
    assert hidden == []  # `from time import time` would slip past the line above


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_and_says_what_it_is_for(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE
    assert ast.get_docstring(TREES[module])


def test_no_function_is_long() -> None:
    long = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= LONGEST_FUNCTION
    }
    assert long == {}


def test_nothing_is_left_to_be_done_or_to_be_remembered() -> None:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert [str(path) for path in MODULES.values() if marks.search(path.read_text(encoding="utf-8"))] == []


def test_the_nouns_and_decisions_touch_nothing_outside_themselves() -> None:
    forbidden = {"os.open", "os.stat", "open", "socket", "subprocess", "sqlite3", "pathlib"}
    for name in (
        "model",
        "policy",
        *(f"config.{one}" for one in ("naming", "pattern", "schema", "parse", "keys")),
    ):
        assert not forbidden & set(imports(f"tidegate.{name}"))
        calls = {
            ast.unparse(it.func) for it in ast.walk(TREES[f"tidegate.{name}"]) if isinstance(it, ast.Call)
        }
        assert not forbidden & calls
