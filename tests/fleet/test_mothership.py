"""The mothership as a process: what it tells devices, what it shows its operator, and whom it lets in."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests
from playwright.sync_api import expect, sync_playwright

from tests.fleet.rig import Mothership, Process
from tidegate.mothership.bank import Bank
from tidegate.mothership.books import KEPT_OF_ACTIONS, Books

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Page

BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


class Device:
    """Says what it is told to, over real HTTP."""

    def __init__(self, home: Mothership, name: str, token: str = "") -> None:
        self.home, self.name, self.token = home, name, token or f"secret-of-{name}"

    def enrol(self, bootstrap: str = "", **more: str) -> int:
        token = bootstrap or self.home.bootstrap.read_text().strip()
        body = {"name": self.name, "token_sha256": digest(self.token), **more}
        return self.post("/ingestor/enrol", body, token).status_code

    def post(self, path: str, body: Any, token: str) -> requests.Response:
        headers = {"authorization": f"Bearer {token}"}
        return requests.post(f"{self.home.url}{path}", json=body, headers=headers, timeout=10)

    def call(self, action: str = "heartbeat", **context: Any) -> dict[str, Any]:
        answer = self.post("/ingestor", {"context": {"action": action, **context}}, self.token)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mothership]:
    one = Mothership(tmp_path_factory.mktemp("mothership"))
    yield one
    one.kill()


@pytest.fixture
def home(shared: Mothership) -> Mothership:
    """A mothership without devices."""
    for one in shared.ask("GET", "/devices")["devices"]:
        shared.ask("DELETE", f"/devices/{one['name']}")
    return shared


@pytest.fixture
def device(home: Mothership) -> Device:
    one = Device(home, "press-7")
    assert one.enrol() == 201
    return one


def test_a_device_enrols_once_by_the_bootstrap_token_and_nobody_takes_its_name(home: Mothership) -> None:
    one = Device(home, "press-7")
    assert one.enrol("guessed") == 401
    assert one.enrol() == 201
    assert one.enrol() == 201  # its answer was lost
    assert Device(home, "press-7", "other").enrol() == 409
    home.ask("DELETE", "/devices/press-7")
    assert one.post("/ingestor", {"context": {}}, one.token).status_code == 401
    assert Device(home, "press-7", "other").enrol() == 201


@pytest.mark.parametrize("more", [{"name": "--help"}, {"name": ""}, {"name": "a b"}, {"token_sha256": "12"}])
def test_an_enrolment_that_makes_no_sense_is_refused(home: Mothership, more: dict[str, str]) -> None:
    assert Device(home, "press-7").enrol(**more) == 400


def test_a_configuration_is_sent_until_the_device_has_it_or_has_refused_it(device: Device) -> None:
    assert device.call("register")["state"] == "registered"
    rev = device.home.ask("PUT", "/devices/press-7/desired", {"LogLevel": "DEBUG"})["rev"]
    for _ in range(2):
        reply = device.call()
        assert (reply["state"], reply["rev"], reply["config"]) == ("configured", rev, {"LogLevel": "DEBUG"})
    assert "config" not in device.call(rev=rev)
    assert "config" not in device.call(rejected=rev)
    assert device.home.device("press-7")["rejected"] == rev


def test_a_refused_configuration_stays_an_error_until_another_is_wanted(device: Device) -> None:
    home = device.home
    Device(home, "press-8").enrol()
    used = home.ask("PUT", "/devices/press-7/desired", {"LogLevel": "DEBUG"})["rev"]
    rev = home.ask("PUT", "/devices/press-7/desired", {"LogLevel": "LOUD"})["rev"]
    device.call("register+error", rev=used, rejected=rev, error={"message": "LogLevel: LOUD is none"})
    assert home.device("press-7")["error"] == "LogLevel: LOUD is none"
    device.call(rev=used, rejected=rev)
    assert home.device("press-7")["error"] == f"revision {rev} was refused; its history tells why"
    shown = requests.get(f"{home.url}/?trouble=1", auth=("operator", home.admin), timeout=10).text
    assert ("press-7" in shown, "press-8" in shown) == (True, False)
    home.ask("PUT", "/devices/press-7/desired", {"LogLevel": "INFO"})
    device.call(rev=used, rejected=rev)
    assert home.device("press-7")["error"] == ""


def test_what_every_device_shall_be_holds_for_those_without_their_own(
    mothership: Callable[..., Mothership],
) -> None:
    home = mothership()
    device, other, third = (Device(home, name) for name in ("press-7", "press-8", "press-9"))
    for one in (device, other, third):
        one.enrol()
    device.home.ask("PUT", "/desired", {"LogLevel": "ERROR"})
    device.home.ask("PUT", "/devices/press-7/desired", {"LogLevel": "DEBUG"})
    assert device.call()["config"] == {"LogLevel": "DEBUG"}
    assert other.call()["config"] == {"LogLevel": "ERROR"}
    home.ask("PUT", "/devices/press-9/state", {"state": "suspended"})
    assert "config" not in third.call()


def test_a_suspended_device_is_told_no_configuration(device: Device) -> None:
    device.home.ask("PUT", "/devices/press-7/desired", {"LogLevel": "ERROR"})
    device.home.ask("PUT", "/devices/press-7/state", {"state": "suspended"})
    assert device.call().items() >= {"state": "suspended"}.items()
    assert "config" not in device.call()


def test_actions_come_in_order_one_at_a_time_until_each_is_answered(device: Device) -> None:
    one, two = (
        device.home.ask("POST", "/devices/press-7/actions", {"action": action})["action_id"]
        for action in ("report", "upgrade")
    )
    assert device.call()["action_id"] == one
    assert device.call()["action_id"] == one
    assert device.call("report", action_id=one, result={"a": 1})["action_id"] == two
    reply = device.call("upgrade+error", action_id=two, error={"code": 3, "message": "no"})
    assert "action" not in reply
    ended = [device.home.action("press-7", it) for it in (one, two)]
    assert [(it["answer"], it["result"]) for it in ended] == [("ack", {"a": 1}), ("error", "3: no")]
    device.call("report", action_id=two)
    assert device.home.action("press-7", two)["answer"] == "error"


def test_a_report_can_be_read_after_the_next_heartbeat_and_old_actions_are_forgotten(device: Device) -> None:
    report = {"Sources": {f"s{number}": {"PathName": "/data/*"} for number in range(100)}}
    for number in range(KEPT_OF_ACTIONS + 5):
        action = device.home.ask("POST", "/devices/press-7/actions", {"action": "report"})["action_id"]
        device.call("report", action_id=action, result=report if number else "the first one")
    device.call(result={"added": 1})
    found = device.home.ask("GET", "/devices/press-7")["actions"]
    assert [one["result"] for one in found] == [report] * KEPT_OF_ACTIONS
    database = sqlite3.connect(device.home.bootstrap.parent / "fleet.db")
    try:
        assert database.execute("SELECT count(*) FROM actions").fetchone() == (KEPT_OF_ACTIONS,)
    finally:
        database.close()


def test_one_key_queues_an_action_once_for_each_device(device: Device) -> None:
    other = Device(device.home, "press-8")
    other.enrol()
    for one in (device, other, device):
        order = {"action": "report", "key": "report-of-november"}
        device.home.ask("POST", f"/devices/{one.name}/actions", order)
    for one in (device, other):
        assert one.call()["action_id"] == "report-of-november"
        assert "action" not in one.call("report", action_id="report-of-november")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/devices/pres-7/desired", {"LogLevel": "DEBUG"}),
        ("PUT", "/devices/pres-7/state", {"state": "suspended"}),
        ("POST", "/devices/pres-7/actions", {"action": "report"}),
        ("DELETE", "/devices/pres-7", None),
        ("GET", "/devices/pres-7", None),
    ],
)
def test_a_device_that_is_not_there_is_told_so(device: Device, method: str, path: str, body: Any) -> None:
    headers = {"authorization": f"Bearer {device.home.admin}"}
    answer = requests.request(method, f"{device.home.url}{path}", json=body, headers=headers, timeout=10)
    assert answer.status_code == 404


def test_nobody_ends_the_action_of_another_device(device: Device) -> None:
    other = Device(device.home, "press-8")
    other.enrol()
    action = device.home.ask("POST", "/devices/press-7/actions", {"action": "report"})["action_id"]
    other.call("report", action_id=action)
    assert device.home.action("press-7", action)["ended"] is None


def test_nothing_that_was_answered_is_lost_by_a_kill(device: Device) -> None:
    home = device.home
    rev = home.ask("PUT", "/devices/press-7/desired", {"LogLevel": "DEBUG"})["rev"]
    action = home.ask("POST", "/devices/press-7/actions", {"action": "report"})["action_id"]
    device.call("startup", version="1.2")
    home.kill()
    home.start()
    assert device.call().items() >= {"rev": rev, "action_id": action}.items()
    assert [line["what"] for line in home.ask("GET", "/devices/press-7")["history"]][-1] == "enrolled"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x", 400),
        (b"[]", 400),
        (b'{"context": 5}', 400),
        (b"[" * 100_000, 400),
        (b'{"context": {"info": ' + b"[" * 100 + b"]" * 100 + b"}}", 400),
        (b'{"context": {"info": {"x": 1e999}}}', 400),
        (b'{"context": {"info": {"x": NaN}}}', 400),
        (b'{"context": {"action": "' + b"x" * 300_000 + b'"}}', 413),
    ],
)
def test_what_is_no_message_is_refused(device: Device, body: bytes, status: int) -> None:
    headers = {"authorization": f"Bearer {device.token}"}
    answer = requests.post(f"{device.home.url}/ingestor", data=body, headers=headers, timeout=10)
    assert answer.status_code == status


def test_odd_things_in_a_message_are_passed_over(device: Device) -> None:
    odd = {"action": ["x"], "rev": -1, "rejected": 2**70, "version": 5, "info": [1], "error": {"code": EVIL}}
    assert device.call(**odd)["state"] == "registered"
    odd = {
        "info": {"backlog": {"files": "many", "bytes": True}},
        "credentials": {"wanted": 1, "expires": "soon"},
    }
    assert device.call(**odd)["state"] == "registered"


def test_what_is_no_text_does_not_keep_the_operator_from_looking(device: Device) -> None:
    device.call("x\udcff", info={"troubles": ["\udcff"]}, error={"message": "\ud800"}, version="\udcff")
    assert device.home.ask("GET", "/devices/press-7")["info"]["troubles"] == ["\udcff"]
    assert device.home.device("press-7")["cause"] == "x"


@pytest.mark.parametrize("path", ["/devices", "/devices/press-7/actions", "/act"])
def test_a_page_of_somebody_else_does_nothing_in_the_browser_of_the_operator(
    device: Device, path: str
) -> None:
    body = {"name": "press-8", "token_sha256": "0" * 64, "action": "reboot"}
    login = ("operator", device.home.admin)  # which a browser sends along, and this kind of body unasked
    kind = {"content-type": "text/plain", "origin": "https://evil.example.com"}
    url = f"{device.home.url}{path}"
    answer = requests.post(url, data=json.dumps(body), headers=kind, auth=login, timeout=10)
    assert answer.status_code in (401, 403)
    assert "action" not in device.call()
    assert device.home.device("press-8") == {}


@pytest.mark.parametrize("path", ["/", "/devices", "/devices/press-7"])
def test_only_the_operator_looks_at_devices(device: Device, path: str) -> None:
    assert requests.get(f"{device.home.url}{path}", timeout=10).status_code == 401
    headers = {"authorization": f"Bearer {device.token}"}
    assert requests.get(f"{device.home.url}{path}", headers=headers, timeout=10).status_code == 401


def test_what_it_keeps_is_for_its_owner_only(home: Mothership) -> None:
    folder = home.bootstrap.parent
    names = ("fleet.db", "fleet.db-wal", "fleet.db.admin", "fleet.db.bootstrap")
    assert {stat.S_IMODE((folder / name).stat().st_mode) for name in names} == {0o600}


def test_it_listens_to_the_network_only_with_tls(folder: Path) -> None:
    one = Process(folder, "open", "mothership", "--db", str(folder / "f.db"), "--listen", "0.0.0.0:1")
    assert one._process.wait(timeout=20) == 2
    assert "--tls-cert" in one.log


def test_a_step_that_nobody_waits_for_any_more_holds_up_no_other(tmp_path: Path) -> None:
    books = Books(tmp_path / "fleet.db")
    begun, going_on = threading.Event(), threading.Event()
    first = books.step(lambda _: begun.set() or going_on.wait(10))
    assert begun.wait(10)
    given_up = books.step(lambda _: 2)
    assert given_up.cancel()
    last = books.step(lambda _: 3)
    going_on.set()
    assert (first.result(10), last.result(10)) == (True, 3)
    books.close()


# Credentials


def grant(folder: Path, ends: str) -> Path:
    program = folder / "grant"
    keys = {"AccessKeyId": "ASIA1", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": ends}
    program.write_text(f"#!/bin/sh\necho '{json.dumps(keys)}'\n")
    program.chmod(0o700)
    return program


def test_only_a_configured_device_is_given_credentials(
    folder: Path, mothership: Callable[..., Mothership]
) -> None:
    home = mothership("--grant", str(grant(folder, "2100-01-01T00:00:00Z")))
    device = Device(home, "press-7")
    device.enrol()
    wants = {"credentials": {"wanted": True, "expires": None}}
    assert "aws_keys" not in device.call(**wants)
    home.ask("PUT", "/devices/press-7/desired", {})
    assert device.call(**wants)["aws_keys"]["access_key_id"] == "ASIA1"
    assert "aws_keys" not in device.call(credentials={"wanted": True, "expires": "2100-01-01T00:00:00Z"})
    home.ask("PUT", "/devices/press-7/state", {"state": "suspended"})
    assert "aws_keys" not in device.call(**wants)


def test_credentials_are_good_while_they_last_though_no_new_ones_can_be_made(folder: Path) -> None:
    program = grant(folder, "2100-01-01T00:00:00Z")
    ends = 4_102_444_800.0
    bank = Bank(str(program))

    async def keys(seconds: float) -> object:
        return await bank.keys("press-7", held_until=None, now=ends - seconds)

    async def go() -> None:
        made = await keys(1000)
        assert made
        program.write_text("#!/bin/sh\nexit 1\n")
        assert await keys(900) == made
        assert await keys(100) == made
        assert await keys(0) is None

    asyncio.run(go())


# The page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(
            "the page is tested in a real browser, and there is none: apt-get install chromium-headless-shell"
        )
    with sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield one
        one.close()


@pytest.fixture
def page(browser: Any, home: Mothership) -> Iterator[Page]:
    login = {"username": "operator", "password": home.admin}
    with browser.new_context(http_credentials=login, base_url=home.url) as context:
        yield context.new_page()


def row(page: Page, name: str) -> Any:
    return page.locator(f'tr[data-device="{name}"]')


@pytest.mark.slow
def test_the_page_shows_devices_their_state_backlog_and_errors(page: Page, device: Device) -> None:
    info = {"backlog": {"files": 12, "bytes": 40960}}
    device.call(
        "heartbeat+error", info=info, error={"code": "NoSuchBucket", "message": "it is gone"}, version="1.2"
    )
    page.goto("/")
    expect(page.locator("#count")).to_contain_text("1 devices")
    expect(row(page, "press-7").locator(".state")).to_have_text("registered")
    expect(row(page, "press-7").locator(".backlog")).to_have_text("12 files, 40960 bytes")
    expect(row(page, "press-7").locator(".error")).to_have_text("NoSuchBucket: it is gone")
    font = page.locator("td.error").evaluate("it => getComputedStyle(it).fontWeight")
    assert font == "700"  # its style is there


@pytest.mark.slow
def test_an_action_is_queued_by_the_form_and_the_device_gets_it(page: Page, device: Device) -> None:
    page.goto("/")
    row(page, "press-7").get_by_label("Action for press-7").select_option("apply-policies")
    row(page, "press-7").get_by_role("button", name="Queue").click()
    expect(page.locator("#said")).to_have_text("apply-policies queued for press-7")
    expect(row(page, "press-7").locator(".open")).to_have_text("1 open")
    assert device.call()["action"] == "apply-policies"


@pytest.mark.slow
def test_what_a_device_says_of_itself_is_text_and_nothing_else(page: Page, device: Device) -> None:
    device.call(EVIL, error=EVIL, version=EVIL, info={"hostname": EVIL})
    said: list[str] = []
    page.on("console", lambda line: said.append(line.text))
    page.goto(f"/?said={EVIL}")
    expect(row(page, "press-7").locator(".error")).to_have_text(EVIL)
    assert page.title() == "Mothership: 1 devices"
    assert page.locator("script, img").count() == 0
    assert said == []


@pytest.mark.slow
def test_a_form_of_somebody_elses_page_does_nothing(page: Page, device: Device) -> None:
    page.goto("/")
    form = {"device": "press-7", "action": "reboot", "key": "0" * 32}
    for csrf in ("", "0" * 64):
        answer = page.request.post("/act", form={**form, "csrf": csrf}, max_redirects=0)
        assert answer.status == 403
    assert "action" not in device.call()
    mark = page.locator("input[name=csrf]").first.input_value()
    for _ in range(2):  # a reload that sends the form again
        assert page.request.post("/act", form={**form, "csrf": mark}, max_redirects=0).status == 303
    assert len(device.home.ask("GET", "/devices/press-7")["actions"]) == 1
    device.call("reboot", action_id=form["key"])
    page.request.post("/act", form={**form, "csrf": mark}, max_redirects=0)
    assert "action" not in device.call()


@pytest.mark.slow
def test_many_devices_come_on_several_pages_and_those_in_trouble_alone(page: Page, home: Mothership) -> None:
    for number in range(105):
        assert Device(home, f"d{number:03}").enrol() == 201
    Device(home, "d104").call(error="no bucket")
    page.goto("/")
    assert page.locator("tbody tr").count() == 100
    page.locator("#next").click()
    expect(page.locator("tbody tr")).to_have_count(5)
    page.get_by_role("link", name="only those with an error").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(row(page, "d104")).to_be_visible()
