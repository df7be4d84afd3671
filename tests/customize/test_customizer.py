"""Customizers: what they are told, what becomes of their answers, and which code is run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.customize.helpers import DECEMBER, JS, STAR, candidate, names, no_bucket, sha256, source_with
from tests.helpers import later, the_source
from tidegate.customize import Namer, Namers, Shelf, worker
from tidegate.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tidegate.config import Source


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        (
            f"{STAR}    return '|'.join([name, settings['line'], str(stat['size']), stat['time'][:10], stat['thing'], stat['source']])\n",
            "star",
        ),
        (
            f"{JS} return [name, settings.line, stat.size, stat.mtime.toISOString().slice(0, 10), stat.thing, stat.source].join('|'); }};",
            "js",
        ),
        (
            "exports.customize = function (name, settings, stat) { return [name, settings.line, stat.size, stat.time.slice(0, 10), stat.thing, stat.source].join('|'); };",
            "js",
        ),
        (
            "function customize(name, settings, stat) { return [name, settings.line, stat.size, new Date(stat.mtimeMs).toISOString().slice(0, 10), stat.thing, stat.source].join('|'); }",
            "js",
        ),
    ],
)
def test_it_is_told_the_name_the_settings_and_what_is_known_of_the_file(
    customized: Callable[..., Namer], code: str, ending: str
) -> None:
    (found,) = names(customized(code, ending, settings={"line": "7"}), "sub/a.csv")
    assert found.key == "sub/a.csv=7C7=7C10=7C2024-12-30=7Cpress-7=7Cdefault"


def test_a_customizer_of_s3_ingestor_runs_as_it_is(customized: Callable[..., Namer]) -> None:
    # Of that project's own tests: a function of name and settings, exported as the module itself.
    code = "module.exports = function(filename,settings){\n    return settings.testKEY;\n};\n"
    (found,) = names(customized(code, "js", settings={"testKEY": "TEST"}, ObjectKeyPrefix="up"), "a.csv")
    assert found.key == "up/TEST"


def test_an_answer_stays_below_the_prefix_and_unfit_characters_are_escaped(
    customized: Callable[..., Namer],
) -> None:
    namer = customized(f"{STAR}    return settings[name]\n", settings={
        "a": "/year=2024//b c.csv/", "b": "müll/50%", "c": "x/../../y", "d": "k" * 1100, "e": "..", "f": "a\x00b",
    }, ObjectKeyPrefix="site/7")  # fmt: skip
    a, b, c, d, e, f = names(namer, *"abcdef")
    assert (a.key, b.key) == ("site/7/year=2024/b=20c.csv", "site/7/müll/50=25")
    assert c.problem.startswith("key_impossible")
    assert d.problem.startswith("key_too_long")
    assert e.problem.startswith("key_impossible")
    assert f.key == "site/7/a=00b"


def test_without_escaping_a_key_keeps_its_characters(customized: Callable[..., Namer]) -> None:
    namer = customized(
        f"{STAR}    return 'b c%' if name == 'a' else 'x\\u0000'\n", NameEscaping="None", Carrier="Direct"
    )
    a, b = names(namer, "a", "b")
    assert a.key == "b c%"
    assert b.problem.startswith("name_unfit")


def test_compressed_files_get_their_ending(customized: Callable[..., Namer]) -> None:
    assert names(customized(f"{STAR}    return name\n", Compress="Gzip"), "a.csv")[0].key == "a.csv.gz"


def test_a_name_that_is_not_utf8_is_told_with_its_bytes_escaped(customized: Callable[..., Namer]) -> None:
    assert names(customized(f"{STAR}    return name\n"), "m\udcfcll.csv")[0].key == "m=FCll.csv"


def test_the_time_of_the_cycle_is_told(customized: Callable[..., Namer]) -> None:
    namer = customized(f"{STAR}    return stat.get('cycle', 'none') + '/' + name\n")
    assert names(namer, "a", cycle=DECEMBER)[0].key == "2024-12-30T23:00:00+00:00/a"
    assert names(namer, "b")[0].key == "none/b"


def test_rules_come_before_it(customized: Callable[..., Namer]) -> None:
    namer = customized(f"{STAR}    return 'code/' + name\n", Rules=[{"Match": "*.log", "Key": "rule/{name}"}])
    assert [one.key for one in names(namer, "a.log", "a.csv")] == ["rule/a.log", "code/a.csv"]


def test_five_thousand_files_a_second_are_named_with_room_to_spare(customized: Callable[..., Namer]) -> None:
    import time  # noqa: PLC0415

    namer = customized(
        f"{STAR}    return settings['line'] + '/' + stat['time'][:10] + '/' + name\n", settings={"line": "7"}
    )
    files = [candidate(f"folder/file-{number}.csv") for number in range(5000)]
    began = time.process_time()
    for start in range(0, len(files), 500):
        namer.names(files[start : start + 500], moment=later())
    assert time.process_time() - began < 1  # ours alone; bench/customize.py measures both sides


# Which code is run


def test_code_that_is_not_what_the_configuration_asks_for_is_never_run(tmp_path: Path) -> None:
    source = source_with(tmp_path / "names.star", f"{STAR}    return 'mine/' + name\n")
    (tmp_path / "names.star").write_text(f"{STAR}    return 'theirs/' + name\n", encoding="utf-8")
    namer = Namer(source, "thing", Shelf(tmp_path / "shelf", no_bucket))
    (found,) = names(namer, "a")
    assert "its SHA-256 is" in found.problem
    assert not (tmp_path / "shelf").exists()


def test_a_file_that_has_changed_or_gone_since_does_not_matter(tmp_path: Path) -> None:
    source = source_with(tmp_path / "names.star", f"{STAR}    return 'mine/' + name\n")
    for _ in range(2):
        namer = Namer(source, "thing", Shelf(tmp_path / "shelf", no_bucket))
        assert names(namer, "a")[0].key == "mine/a"
        namer.close()
        (tmp_path / "names.star").unlink(missing_ok=True)


def test_new_code_takes_the_place_of_the_old_one_and_nothing_of_that_is_left(tmp_path: Path) -> None:
    for number in (1, 2):
        source = source_with(tmp_path / "names.js", f"{JS} return '{number}/' + name; }};")
        namer = Namer(source, "thing", Shelf(tmp_path / "shelf", no_bucket))
        assert names(namer, "a")[0].key == f"{number}/a"
        namer.close()
    assert sorted(path.suffix for path in (tmp_path / "shelf").iterdir()) == ["", ".json"]


@pytest.mark.parametrize("fault", ["missing", "changed", "broken"])
def test_the_last_good_code_stays_in_use_with_its_own_settings_until_the_new_one_is_good(
    tmp_path: Path, fault: str
) -> None:
    shelf = Shelf(tmp_path / "shelf", no_bucket)
    old = source_with(
        tmp_path / "old.star", f"{STAR}    return settings['x'] + name\n", settings={"x": "old/"}
    )
    first = Namer(old, "thing", shelf)
    assert names(first, "a")[0].key == "old/a"
    first.close()
    good = f"{STAR}    return settings['x'] + name\n# better\n"
    code = "def customize(" if fault == "broken" else good
    new = source_with(tmp_path / "new.star", code, settings={"x": "new/"})
    if fault == "missing":
        (tmp_path / "new.star").unlink()
    elif fault == "changed":
        (tmp_path / "new.star").write_text("other", encoding="utf-8")
    namer = Namer(new, "thing", shelf)
    assert names(namer, "b")[0].key == "old/b"
    assert namer.trouble
    (tmp_path / "new.star").write_text(good, encoding="utf-8")
    assert names(namer, "c", steady=59)[0].key == "old/c"
    again = names(namer, "d", steady=61)[0].key
    assert (again, bool(namer.trouble)) == (("old/d", True) if fault == "broken" else ("new/d", False))
    namer.close()


def test_a_shelf_that_was_tampered_with_gives_nothing(tmp_path: Path) -> None:
    code = f"{STAR}    return name\n"
    source = source_with(tmp_path / "names.star", code)
    namer = Namer(source, "thing", Shelf(tmp_path / "shelf", no_bucket))
    names(namer, "a")
    namer.close()
    (tmp_path / "names.star").unlink()
    (tmp_path / "shelf" / sha256(code)).write_text(f"{STAR}    return 'evil'\n", encoding="utf-8")
    namer = Namer(source, "thing", Shelf(tmp_path / "shelf", no_bucket))
    assert names(namer, "a")[0].problem
    (tmp_path / "shelf" / "default.json").write_text("[", encoding="utf-8")
    assert names(namer, "b", steady=61)[0].problem


def from_bucket(code: str, **keys: Any) -> dict[str, Any]:
    return {
        "File": "names.star",
        "FromBucket": "programs",
        "FromPrefix": "code/x",
        "Sha256": sha256(code),
        **keys,
    }


def test_code_comes_from_a_bucket_under_its_prefix_once(tmp_path: Path) -> None:
    code = f"{STAR}    return 'b/' + name\n"
    asked: list[tuple[str, str]] = []

    def fetch(_: Any, bucket: str, key: str, limit: int) -> bytes:
        asked.append((bucket, key))
        if len(asked) == 1:
            raise Unavailable("no network")
        return code.encode()

    source = the_source("/data", "**", Customizer=from_bucket(code))
    namer = Namer(source, "thing", Shelf(tmp_path / "shelf", fetch))
    assert "no network" in names(namer, "a")[0].problem
    assert names(namer, "b", steady=61)[0].key == "b/b"
    namer.close()
    second = Namer(source, "thing", Shelf(tmp_path / "shelf", fetch))
    assert names(second, "c")[0].key == "b/c"
    second.close()
    assert asked == [("programs", "code/x/names.star")] * 2


def test_code_from_a_bucket_that_is_another_one_is_not_run(tmp_path: Path) -> None:
    source = the_source("/data", "**", Customizer=from_bucket("x"))
    namer = Namer(source, "thing", Shelf(tmp_path / "shelf", lambda *_: b"y"))
    assert "SHA-256" in names(namer, "a")[0].problem


def test_sources_that_take_code_at_the_same_time_do_not_take_it_from_each_other(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def take(shelf: Shelf, source: Source) -> None:
        assert source.customizer
        together.wait(10)
        shelf.was_good(source.name, shelf.wanted(source, source.customizer))

    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            two = [
                source_with(tmp_path / f"{one}.star", f"{STAR}    return '{number} {one}' + name\n")
                for one in range(2)
            ]
            sources = [replace(two[one % 2], name=f"s{one}") for one in range(8)]
            list(pool.map(take, [Shelf(tmp_path / "shelf", no_bucket)] * 8, sources))
            left = [Shelf(tmp_path / "shelf", no_bucket).last_good(one.name) for one in sources]
            assert [code and code.sha256 for code in left] == [
                one.customizer and one.customizer.sha256 for one in sources
            ]


def test_what_has_failed_is_tried_at_once_when_somebody_asks(tmp_path: Path) -> None:
    code = f"{STAR}    return 'b/' + name\n"
    kept: list[bytes] = []

    def fetch(*_: Any) -> bytes:
        if not kept:
            raise Unavailable("no network")
        return kept[0]

    source = the_source("/data", "**", Customizer=from_bucket(code))
    namers = Namers("thing", Shelf(tmp_path / "shelf", fetch))
    namer = namers.of(source)
    assert namer
    assert names(namer, "a")[0].problem
    kept.append(code.encode())
    assert names(namer, "a", steady=1)[0].problem
    namers.again("another")
    assert names(namer, "a", steady=2)[0].problem
    namers.again(source.name)
    assert names(namer, "a", steady=3)[0].key == "b/a"
    namers.close()


def test_a_shelf_that_only_looks_writes_nothing(tmp_path: Path) -> None:
    source = source_with(tmp_path / "names.star", f"{STAR}    return name\n")
    namer = Namer(source, "thing", Shelf(tmp_path / "shelf", no_bucket, only_look=True))
    assert names(namer, "a")[0].key == "a"
    namer.close()
    assert not (tmp_path / "shelf").exists()


def test_processes_end_when_nobody_has_asked_for_a_minute_and_begin_again(
    customized: Callable[..., Namer],
) -> None:
    namer = customized(f"{STAR}    return name\n", Rules=[{"Match": "re:.*log", "Ignore": True}])
    names(namer, "a", steady=10)
    assert namer._worker is not None
    namer.rest(129)
    assert namer._worker._process is not None
    namer.rest(131)
    assert namer._worker._process is None
    assert names(namer, "b", steady=80)[0].key == "b"


def test_sources_without_rules_have_no_namer_and_ignore_nothing(tmp_path: Path) -> None:
    namers = Namers("thing")
    plain = the_source("/data", "**")
    assert namers.of(plain) is None
    assert not namers.ignore(plain, candidate("a.tmp"), moment=later())
    ruled = the_source("/data", "**", Rules=[{"Match": "*.tmp", "Ignore": True}])
    assert namers.ignore(ruled, candidate("a.tmp"), moment=later())
    assert not namers.ignore(ruled, candidate("a.csv"), moment=later())


@pytest.mark.parametrize(("engine", "package"), [("Starlark", "starlark"), ("JavaScript", "quickjs")])
def test_an_engine_that_is_not_installed_is_named_with_what_installs_it(engine: str, package: str) -> None:
    wanted = json.dumps({"engine": engine, "code": "", "settings": {}})
    run = [sys.executable, "-I", "-S", worker.__file__]  # -S: without any package
    done = subprocess.run(run, input=f"{wanted}\n", capture_output=True, text=True, check=True, timeout=20)
    assert f"the package {package} is not installed; pip install '.[customizers]'" in done.stdout
