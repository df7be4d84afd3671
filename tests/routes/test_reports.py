"""What is told of the agent is true, fits a message however much there is, and costs nearly nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.helpers import eventually, transfer, version_of, write
from tests.routes.rig import rig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.routes.rig import Rig


def test_statistics_tell_of_the_last_round_the_totals_and_the_backlog(one: Rig, tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.csv", "12345")
    eventually(lambda: one.source("default").get("totals", {}).get("uploaded") == 1)
    one.carrier.hold()
    write(tmp_path / "data" / "b.csv", "123", age=600)
    found = eventually(lambda: (it := one.source("default"))["backlog"]["files"] == 1 and it)
    assert found["totals"]["bytes"] == 5
    assert found["backlog"]["bytes"] == 3
    assert 600 <= found["backlog"]["oldestSeconds"] < 660
    assert found["last"]["started"] < found["last"]["finished"] <= found["next"]
    reply = one.ask("statistics/get", {"clientToken": "t"})
    assert reply.body["clientToken"] == "t"
    assert reply.body["thing"] == "press-7"
    assert reply.body["totals"]["uploaded"] == 1
    assert reply.body["configuration"] == {"faults": [], "count": 0}


def test_a_round_counts_what_was_uploaded_while_it_lasted(tmp_path: Path) -> None:
    with rig(tmp_path, Interval=3600) as one:
        one.agent._watch.close()
        eventually(lambda: one.source("default").get("last"))
        for name in ("a", "b"):
            write(tmp_path / "data" / f"{name}.csv", "123")
        one.ask("scan/post")
        eventually(lambda: one.source("default")["totals"]["uploaded"] == 2)
        one.ask("scan/post")
        last = eventually(lambda: (it := one.source("default")["last"])["uploaded"] and it)
        assert (last["found"], last["uploaded"], last["failed"], last["held"], last["bytes"]) == (
            2,
            2,
            0,
            0,
            6,
        )


def test_what_waits_in_many_buckets_is_as_old_as_the_oldest_of_it(one: Rig) -> None:
    one.ask("pause/post")
    for number, bucket in enumerate(("a", "b", "c")):
        age = (number + 1) * 10**9
        one.ledger.offer([(transfer(f"{number}.csv", bucket=bucket, mtime_ns=age), "")], now=0)
    assert one.ledger.books.oldest("default") == 1.0
    assert one.ledger.books.oldest("other") is None


def test_status_names_what_is_held_and_what_was_passed_over(tmp_path: Path) -> None:
    with rig(tmp_path, HoldBack="Newest", MaxHoldSeconds=0) as one:
        path = write(tmp_path / "data" / "a.csv")
        (tmp_path / "data" / "pipe.csv").symlink_to("nowhere")
        source = eventually(
            lambda: (
                (it := one.ask("status/get").body["sources"][0])["holds"].get("newest of its group") and it
            )
        )
        assert source["heldFiles"] == [{"path": str(path), "why": "newest of its group", "seconds": None}]
        assert list(source["problems"]) == [str(tmp_path / "data" / "pipe.csv")]


def test_faults_of_a_configuration_that_is_not_used_are_told(one: Rig) -> None:
    one.routes.faults([f"Key{number}: is wrong; write it right {'x' * 400}" for number in range(30)])
    told = one.ask("statistics/get").body["configuration"]
    assert told["count"] == 30
    assert told["faults"][0].startswith("Key0: is wrong")
    one.routes.faults([])
    assert one.ask("statistics/get").body["configuration"]["count"] == 0


def test_the_worst_that_there_is_to_tell_fits(tmp_path: Path) -> None:
    odd = "\U0001f600" * 60
    with rig(tmp_path, HoldBack="Newest", MaxHoldSeconds=0, PathName=f"{tmp_path}/**") as one:
        for number in range(5):
            (tmp_path / f"{odd}{number}").symlink_to("nowhere")
            one.health.tell(f"scan {odd}{number}", ConnectionError(odd * 20))
            body = version_of(write(one.work / f"{odd}{number}"))  # is there, else a look for files drops it
            one.ledger.offer(
                [(replace(transfer(key=odd * 4), id=bytes([number]), body=body), odd * 30)], now=1.0
            )
        one.routes.faults([odd * 30] * 9)
        for route in ("statistics/get", "status/get"):
            body = eventually(lambda route=route: (it := one.ask(route).body)["carriers"]["troubles"] and it)
            assert body["sources"][0]["name"] == "default"
            assert len(body["configuration"]["faults"]) == 3
        assert body["quarantine"][0]["reason"].startswith(odd[0])
        eventually(lambda: one.ask("status/get").body["sources"][0]["problems"])


def pages(one: Rig, route: str, name: str = "sources", **fields: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: dict[str, str] = {}
    for _ in range(200):
        body = one.ask(route, {**fields, **cursor}).body
        found += body[name]
        if "cursor" not in body:
            return found
        cursor = {"cursor": body["cursor"]}
    raise AssertionError("it never ends")


def test_however_many_sources_there_are_each_is_on_one_page(tmp_path: Path) -> None:
    sources = {
        f"source-{number:03}": {"PathName": f"{tmp_path}/{number}/*", "Exclude": ["x" * 50] * 20}
        for number in range(60)
    }
    with rig(tmp_path, PathName=None, Interval=3600, Sources=sources) as one:
        for route in ("statistics/get", "status/get", "configuration/get"):
            names = [source["name"] for source in pages(one, route)]
            assert [name for name in names if name != "objects"] == list(sources), route


def test_all_promises_about_a_file_are_told_page_by_page(one: Rig, tmp_path: Path) -> None:
    one.ask("pause/post")
    for version in range(1, 40):
        one.ledger.offer([(transfer("many.csv", version=version, key="k" * 900), "")], now=float(version))
    found = pages(one, "explain/get", "promises", path="/data/many.csv")
    assert len(found) == 39
    assert {promise["state"] for promise in found} == {"READY"}


def test_an_explanation_with_very_much_to_tell_fits(tmp_path: Path) -> None:
    odd = "\u00e9" * 100
    long = {"NameEscaping": "None", "Carrier": "Direct", "ObjectKeyPrefix": "p" * 330}
    sources = {
        f"s{number}": {
            "PathName": f"{tmp_path}/data/{odd}/{odd}/**",
            "Exclude": [f"{'x' * 300}*{number}"],
            **long,
        }
        for number in range(4)
    }
    with rig(tmp_path, PathName=None, Sources=sources, Interval=3600) as one:
        path = write(tmp_path / "data" / odd / odd / f"{'x' * 200}.csv")
        for number in range(3):
            one.health.tell(f"scan {number}", ConnectionError(odd * 9))
        body = one.ask("explain/get", {"path": str(path)}).body
        assert [source["matches"] for source in body["sources"]] == [True] * 4
        assert body["exists"]


def test_explain_names_the_reason(one: Rig, tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.txt"
    body = one.ask("explain/get", {"path": str(path)}).body
    assert not body["exists"]
    assert "does not match" in body["sources"][0]["because"]


def test_explain_names_the_archive_a_file_is_in_and_the_cycle_that_the_next_one_waits_for(
    tmp_path: Path,
) -> None:
    keys = {"PathName": f"{tmp_path}/data/**", "Mode": "Cycle", "Interval": 3600, "Archive": "Zip"}
    with rig(tmp_path, **keys) as one:
        one.carrier.hold()
        packed = write(tmp_path / "data" / "folder" / "a.csv")
        # Asked again, for had it changed too recently it would wait for an hour.
        eventually(lambda: one.ask("scan/post") and one.source("default").get("backlog", {}).get("files"))
        (told,) = eventually(
            lambda: [
                source
                for source in one.ask("explain/get", {"path": str(packed)}).body["sources"]
                if source["archive"]
            ]
        )
        assert told["archive"].startswith(str(one.work / "archives"))
        one.carrier.let_go()
        eventually(lambda: not packed.exists())
        later = write(tmp_path / "data" / "b.csv")
        (told,) = one.ask("explain/get", {"path": str(later)}).body["sources"]
        assert (told["cycle"], told["archive"]) == (True, None)
        assert told["nextCycle"] == one.source("default")["next"]
        assert told["nextCycle"]


def test_the_configuration_is_told_as_it_holds_and_no_login_with_it(tmp_path: Path) -> None:
    s3 = {"Proxy": "http://user:secret@proxy:3128", "EndpointUrl": "https://store.example.com"}
    keys = {"S3": s3, "ObjectKeyPrefix": "top", "MaxConcurrent": "3"}
    sources = {
        "a": {"PathName": f"{tmp_path}/a/*", "objectkeyprefix": "own", "S3": {"Region": "eu-central-1"}}
    }
    with rig(tmp_path, Sources=sources, **keys) as one:
        reply = one.ask("configuration/get")
        assert b"secret" not in reply.json()
        told = {source["name"]: source for source in reply.body["sources"]}
        assert (told["default"]["ObjectKeyPrefix"], told["a"]["ObjectKeyPrefix"]) == ("top", "own")
        assert told["a"]["S3"]["Region"] == "eu-central-1"
        assert told["a"]["S3"]["Proxy"] == "http://…@proxy:3128"
        assert told["a"]["After"] == "Delete"
        assert reply.body["agent"]["MaxConcurrent"] == "3"
        assert "PathName" not in told["objects"]


def test_the_configuration_tells_of_downloads_and_sockets_and_of_no_secret(tmp_path: Path) -> None:
    proxy = {"Proxy": "http://user:hidden@proxy:3128"}
    settings = {"ApiKey": "hidden", "line": 7, "deep": [{"password": "hidden"}]}
    code = {"File": "/opt/names.star", "Sha256": "0" * 64, "Settings": settings}
    sources = {
        "a": {"PathName": f"{tmp_path}/a/*", "Customizer": code},
        "models": {
            "Direction": "Download",
            "TargetFolder": f"{tmp_path}/models",
            "ObjectsBelow": "press",
            "S3": proxy,
        },
        "meter": {"Socket": "tcp://10.0.0.7:9000", "BatchSuffix": ".csv"},
    }
    home = {"Url": "https://home.example.com", "TokenFile": "/etc/token", **proxy}
    home |= {"Allow": ["LogLevel"], "Commands": {"Restart": ["/bin/true", "hidden"]}}
    with rig(tmp_path, Sources=sources, Home=home, Interval=30) as one:
        reply = one.ask("configuration/get")
        assert b"hidden" not in reply.json()
        told = {source["name"]: source for source in reply.body["sources"]}
        assert told.keys() >= {"a", "models", "meter"}
        models, meter = told["models"], told["meter"]
        assert (models["Direction"], models["TargetFolder"]) == ("Download", f"{tmp_path}/models")
        assert (models["BucketName"], models["Interval"], models["DeleteUnlisted"]) == ("bucket", 30, False)
        assert models["S3"]["Proxy"] == "http://…@proxy:3128"
        assert (meter["Socket"], meter["BatchSuffix"], meter["Framing"]) == (
            "tcp://10.0.0.7:9000",
            ".csv",
            "Lines",
        )
        assert not {"PathName", "HoldBack"} & (models.keys() | meter.keys())
        assert told["a"]["Customizer"]["Settings"]["line"] == 7
        assert reply.body["home"]["Url"] == "https://home.example.com"


def test_a_source_with_very_much_to_show_is_shown_all_the_same(tmp_path: Path) -> None:
    much = {"Exclude": ["x" * 300] * 9, "Metadata": {"a": "b" * 700}, "Tags": {"a": "b" * 200}}
    much |= {"ObjectKeyPrefix": "p" * 400, "RemovePrefix": "q" * 600, "PathName": f"{tmp_path}/{'d' * 200}/*"}
    much |= {"After": "Move", "MoveTo": f"/{'m' * 400}", "CacheControl": "c" * 250}
    rules = [{"Match": "m" * 90, "Key": "k" * 90}] * 20
    s3 = {"CaBundle": f"/{'c' * 400}", "EndpointUrl": f"https://{'e' * 60}.example.com/{'f' * 400}"}
    with rig(tmp_path, Sources={"much": {**much, "Rules": rules, "S3": s3}}) as one:
        told = {source["name"]: source for source in pages(one, "configuration/get")}
        assert told["much"]["After"] == "Move"
        assert "message" not in told["much"]


def test_statistics_are_answered_in_the_callers_thread_of_what_was_read_before(one: Rig) -> None:
    one.ask("statistics/get")
    for _ in range(20):
        took = time.monotonic()
        answer = one.send("statistics/get")
        assert answer.replies  # before `handle` has returned
        assert time.monotonic() - took < 1
    eventually(lambda: one.routes._board._picture, 1)


def test_a_picture_is_no_older_than_it_may_be_while_somebody_asks(one: Rig, tmp_path: Path) -> None:
    one.ask("statistics/get")
    for number in range(3):
        write(tmp_path / "data" / f"{number}.csv")
        eventually(lambda total=number + 1: one.source("default")["totals"]["uploaded"] == total, 5)
