"""What `status` and `explain` say, as plain values (for --json) and as text made of those values."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidegate.config import Mode
from tidegate.config.naming import cycle_name
from tidegate.model import State
from tidegate.view.snapshot import STALE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tidegate.config import Config, Source
    from tidegate.ledger import Books, Entry
    from tidegate.view.explain import Finding

LISTED = 20
POLICIES = ("added", "updated", "skipped", "ignored", "unchanged", "delayed")
"""Counters of what became of files. The last three count at each scan, the others once for each version."""

_WORDS = {
    State.READY: "waits to be sent",
    State.SENT: "is on its way",
    State.STORED: "is stored; the local file is still to be dealt with",
    State.DONE: "was stored, and is finished",
    State.DROPPED: "was given up, because the file changed or vanished first",
    State.FAILED: "is in quarantine",
}

_CARRIERS = {"streams": "Stream Manager", "direct": "direct upload"}


def state(snapshot: Mapping[str, Any] | None, books: Books, *, now: float) -> dict[str, Any]:
    """Put together what the agent last said and what the ledger holds. Times are wall-clock seconds."""
    seen = snapshot or {}
    running = bool(seen) and now - seen["at"] < STALE_SECONDS and Path(f"/proc/{seen['pid']}").exists()
    tally, counters = books.tally(), books.counters()
    reports: Mapping[str, Any] = seen.get("sources", {})
    names = sorted({*tally, *reports} | ({*counters} - {""}))
    return {
        "running": running,
        "version": seen.get("version"),
        "pid": seen.get("pid"),
        "at": seen.get("at"),
        "ledger": seen.get("ledger"),
        "sources": {
            name: _source(reports.get(name, {}), tally.get(name, {}), counters.get(name, {}))
            for name in names
        },
        "counters": counters.get("", {}),
        "troubles": seen.get("troubles", {}) if running else {},
        "lanes": seen.get("lanes", {}) if running else {},
        "home": seen.get("home", "") if running else "",
        "faults": list(seen.get("faults", ())) if running else [],
        "paused": [asdict(pause) for pause in books.pauses()],
        "paused_sources": [name for name in names if books.is_paused(name)],
        "quarantine": [_entry(entry) for entry in books.in_state(State.FAILED, limit=LISTED)],
    }


def _source(
    report: Mapping[str, Any], tally: Mapping[State, tuple[int, int]], counters: Mapping[str, int]
) -> dict[str, Any]:
    def stand(which: State) -> dict[str, int]:
        files, size = tally.get(which, (0, 0))
        return {"files": files, "bytes": size}

    return {
        "scanned_at": report.get("scanned_at"),
        "found": report.get("found", 0),
        "waiting": stand(State.READY),
        "in_flight": stand(State.SENT),
        "stored": stand(State.STORED),
        "quarantined": stand(State.FAILED),
        "held": sum(report.get("holds", {}).values()),
        "holds": report.get("holds", {}),
        "held_files": report.get("held", []),
        "problems": report.get("problems", {}),
        "last": report.get("last"),
        "next_at": report.get("next_at"),
        "cycles": report.get("cycles", False),
        "running": report.get("running"),
        "space": report.get("space", ""),
        "kind": report.get("kind", "folder"),
        "state": report.get("state", ""),
        "figures": report.get("figures", {}),
        "counters": dict(counters),
    }


def status(found: Mapping[str, Any]) -> str:
    """Write the state as tables."""
    if found["running"]:
        lines = [f"tidegate {found['version']} is running (process {found['pid']})."]
    else:
        lines = ["No agent is running here. This is what the last one left."]
    if found["ledger"] == "memory":
        lines.append("Its disk is full: the ledger is in memory for now.")
    lines += ["", *_table(_rows(found["sources"]))]
    lines += _section("the mothership", [found["home"]], 1 if found["home"] else 0)
    stopped, faults = found["paused_sources"], found["faults"]
    lines += _section("paused (tidegate resume sends again)", stopped, len(stopped))
    lines += _section("faults of the configuration; the last good one is used", faults, len(faults))
    for name, source in found["sources"].items():
        lines += _section(
            f"held back in {name}", [_held(held) for held in source["held_files"]], source["held"]
        )
        problems = [f"{_printable(path)}: {what}" for path, what in source["problems"].items()]
        lines += _section(f"passed over in {name}", problems, len(problems))
    policies = [line for name, source in found["sources"].items() if (line := _policies(name, source))]
    lines += _section("what became of files in all", policies, len(policies))
    cycles = [_cycles(name, source) for name, source in found["sources"].items() if source["cycles"]]
    lines += _section("cycles", cycles, len(cycles))
    inward = [_inward(name, one) for name, one in found["sources"].items() if one["kind"] != "folder"]
    lines += _section("what comes here", inward, len(inward))
    space = [f"{name}: {source['space']}" for name, source in found["sources"].items() if source["space"]]
    lines += _section("room on the disk", space, len(space))
    lines += _section("in quarantine (tidegate retry tries again)", *_quarantine(found))
    paused = [f"{pause['bucket']}: {pause['note']}" for pause in found["paused"]]
    lines += _section("buckets that refuse everything", paused, len(paused))
    troubles = [f"{trouble['reason']}" for part, trouble in found["troubles"].items() if "bucket" not in part]
    lines += _section("not available, tried without end", list(dict.fromkeys(troubles)), len(set(troubles)))
    stuck = [f"{lane}: {what}" for lane, what in found["lanes"].items()]
    lines += _section("streams and destinations that do not get on", stuck, len(stuck))
    return "\n".join(lines)


def _policies(name: str, source: Mapping[str, Any]) -> str:
    """Tell what rules, customizers and a look at the bucket came to, if there is anything to tell."""
    counters = source["counters"]
    if not any(counters.get(word) for word in POLICIES[1:]):
        return ""
    return f"{name}: {', '.join(f'{counters.get(word, 0)} {word}' for word in POLICIES)}"


def _rows(sources: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        ["source", "found", "held", "waiting", "in flight", "stored", "quarantined", "sent in all", "deleted"]
    ]
    for name, source in sources.items():
        counters = source["counters"]
        rows.append(
            [
                name,
                str(source["found"]),
                str(source["held"]),
                *(_amount(source[which]) for which in ("waiting", "in_flight", "stored", "quarantined")),
                f"{counters.get('files_stored', 0)} ({size(counters.get('bytes_stored', 0))})",
                str(counters.get("files_deleted", 0)),
            ]
        )
    return rows


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def _section(title: str, lines: Sequence[str], count: int) -> list[str]:
    if not count:
        return []
    more = [f"  and {count - len(lines)} more"] if count > len(lines) else []
    return ["", f"{title}:", *(f"  {line}" for line in lines), *more]


def _cycles(name: str, source: Mapping[str, Any]) -> str:
    """Tell of the last cycle of a source, and when the next one begins."""
    parts = []
    if (last := source["last"]) and last["finished"] is not None:
        left = f", {last['failed']} failed, {last['held']} left for the next one"
        parts.append(
            f"{cycle_name(last['started'])} stored {last['uploaded']} of {last['found']}"
            f" ({size(last['bytes'])}){left}"
        )
    if source["running"] is not None:
        parts.append(f"{cycle_name(source['running'])} is under way")
    elif source["next_at"] is not None:
        parts.append(f"the next one begins at {cycle_name(source['next_at'])}")
    return f"{name}: {'; '.join(parts)}"


def _inward(name: str, source: Mapping[str, Any]) -> str:
    """Tell what a download or a socket has brought lately."""
    figures = ", ".join(f"{count} {what}" for what, count in source["figures"].items())
    return f"{name}: {'; '.join(filter(None, [source['state'], figures])) or 'nothing yet'}"


def _held(held: Mapping[str, Any]) -> str:
    seconds = held["seconds"]
    until = f", for {duration(seconds)} more at least" if seconds is not None else ""
    return f"{_printable(held['path'])}: {held['why']}{until}"


def _quarantine(found: Mapping[str, Any]) -> tuple[list[str], int]:
    entries = [f"{_printable(entry['path'])}: {entry['note']}" for entry in found["quarantine"]]
    return entries, sum(source["quarantined"]["files"] for source in found["sources"].values())


def _amount(stand: Mapping[str, int]) -> str:
    return f"{stand['files']} ({size(stand['bytes'])})" if stand["files"] else "0"


def explanation(
    path: str,
    findings: Iterable[Finding],
    entries: Iterable[Entry],
    books: Books | None,
    snapshot: Mapping[str, Any] | None,
    *,
    now: float,
) -> dict[str, Any]:
    """Put together all that is known about one file."""
    promises = [_entry(entry) for entry in entries]
    names = {entry["source"] for entry in promises}
    return {
        "path": path,
        "exists": os.path.lexists(path),
        "at": now,
        "sources": [asdict(finding) for finding in findings],
        "promises": promises,
        "paused": {pause.bucket: pause.note for pause in books.pauses()} if books else {},
        "paused_sources": sorted(name for name in names if books and books.is_paused(name)),
        "troubles": (snapshot or {}).get("troubles", {}),
        "lanes": (snapshot or {}).get("lanes", {}),
        "cycles": {
            name: {"next_at": report.get("next_at"), "running": report.get("running")}
            for name, report in (snapshot or {}).get("sources", {}).items()
            if report.get("cycles")
        },
    }


def explained(answer: Mapping[str, Any]) -> str:
    """Write an explanation as sentences."""
    lines = [_printable(answer["path"]) + ("" if answer["exists"] else " does not exist (any more).")]
    for finding in answer["sources"]:
        lines += _finding(finding)
        if finding["matches"] and finding["cycle"] and not answer["promises"] and not finding["archive"]:
            lines.append(f"  {_waits(answer['cycles'].get(finding['source'], {}))}")
    if not answer["promises"]:
        lines.append(
            "Nothing was promised about it yet." if answer["exists"] else "Nothing is known about it."
        )
    for entry in answer["promises"]:
        lines += _promise(entry, answer)
    return "\n".join(lines)


def _finding(finding: Mapping[str, Any]) -> list[str]:
    name = finding["source"]
    if not finding["matches"]:
        return [f"source {name}: no, {finding['because']}"]
    lines = [f"source {name}: yes, {finding['because']}"]
    if finding["brought"]:
        return [*lines, "  it comes again when that object changes, or when this file does"]
    if finding["refused"]:
        lines.append(f"  it can never be sent: {finding['refused']}")
    elif finding["ignored"]:
        return [*lines, "  a rule or the customizer says that it is not to be sent"]
    elif finding["target"]:
        lines.append(f"  it goes to {_printable(finding['target'])}")
        lines.append(f"  by {_CARRIERS[finding['carrier']]}: {finding['chosen']}")
    if finding["held"]:
        until = f"; {duration(finding['seconds'])} left" if finding["seconds"] is not None else ""
        lines.append(f"  this version is held back: {finding['held']}{until}")
    else:
        lines.append("  nothing holds it back")
    if finding["archive"]:
        lines.append(f"  this version is packed in {_printable(finding['archive'])}: explain that file")
    return lines


def _waits(cycles: Mapping[str, Any]) -> str:
    """Tell which cycle a file waits for."""
    if cycles.get("running") is not None:
        return f"it waits for the cycle after the one of {cycle_name(cycles['running'])}"
    if cycles.get("next_at") is not None:
        return f"it waits for the cycle at {cycle_name(cycles['next_at'])}"
    return "it waits for the next cycle"


def _promise(entry: Mapping[str, Any], answer: Mapping[str, Any]) -> list[str]:
    ago = duration(answer["at"] - entry["changed_at"])
    lines = [
        f"promise to {_printable(entry['target'])} ({size(entry['size'])}, source {entry['source']}):",
        f"  by {_CARRIERS.get(entry['carrier'], entry['carrier'])}",
        f"  {entry['means']}, since {ago}; refused {entry['attempts']} time(s)",
    ]
    if entry["note"]:
        lines.append(f"  last word: {entry['note']}")
    if entry["lane"]:
        lines.append(f"  receipt: number {entry['receipt']} in {entry['lane']}")
        stuck = answer["lanes"].get(entry["lane"])
        lines += [f"  that stream does not get on: {stuck}"] if stuck and entry["state"] == "SENT" else []
    if entry["state"] in {"READY", "STORED"} and entry["due"] > answer["at"]:
        lines.append(f"  tried again in {duration(entry['due'] - answer['at'])}")
    if entry["state"] == "READY" and entry["source"] in answer["paused_sources"]:
        lines.append("  its source is paused: tidegate resume sends again")
    if entry["state"] == "READY" and entry["bucket"] in answer["paused"]:
        lines.append(f"  its bucket refuses everything: {answer['paused'][entry['bucket']]}")
    if entry["state"] in {"READY", "SENT"}:
        lines += [f"  not available: {trouble['reason']}" for trouble in answer["troubles"].values()][:1]
    return lines


def _entry(entry: Entry) -> dict[str, Any]:
    values = {name.name: getattr(entry, name.name) for name in fields(entry)}
    return values | {
        "state": entry.state.name,
        "means": _WORDS[entry.state],
        "target": f"s3://{entry.bucket}/{entry.key}",
    }


def configuration(config: Config) -> str:
    """Tell in a few lines what a configuration will do."""
    lines = []
    for source in config.sources:
        after = {"Delete": "deleted", "Keep": "kept", "Move": f"moved to {source.move_to}"}[
            source.after.value
        ]
        lines += [
            f"source {source.name}:",
            f"  files     {source.glob.text}",
            f"  go to     s3://{source.bucket}/{source.key.text} with prefix {source.prefix or '(none)'}",
            *_rhythm(source, config.time_zone),
            f"  held back {source.hold_back.value}; quiet for {source.quiet_seconds:g} s",
            f"  then      {after}, {source.delete_after_seconds / 60:g} minutes after it is stored",
        ]
    return "\n".join([*lines, *_configured_inward(config)])


def _configured_inward(config: Config) -> Iterator[str]:
    for download in config.downloads:
        keys = ", ".join(download.keys) if download.below is None else f"{download.below}/*".lstrip("/")
        yield f"source {download.name}:"
        yield f"  brings    s3://{download.bucket}/{_printable(keys)}"
        yield f"  to        {download.folder}, each {download.interval_seconds:g} s"
        yield f"  then      what is not there any more is {'deleted' if download.delete_unlisted else 'kept'}"
    for socket in config.sockets:
        way = socket.way
        yield f"source {way.name}:"
        yield f"  reads     {socket.address}, {socket.framing.value.lower()}"
        yield f"  go to     s3://{way.bucket}/{way.key.text} with prefix {way.prefix or '(none)'}"
        yield f"  each      {size(socket.batch_bytes)} or {socket.batch_seconds:g} s"


def _rhythm(source: Source, zone: str | None) -> list[str]:
    """Tell when the cycles of a source begin, and what they pack."""
    if source.mode is not Mode.CYCLE:
        return []
    times = f"each {source.interval_seconds:g} s"
    if source.schedule:
        times = f"at {source.schedule.text} on the clocks of {zone or 'this machine'}"
    return [f"  cycles    {times}; archives of folders: {source.archive.value}"]


def size(count: float) -> str:
    """Write a number of bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def duration(seconds: float) -> str:
    """Write a number of seconds for people."""
    seconds = max(0.0, seconds)
    for limit, divisor, unit in ((100, 1, "s"), (6000, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape", "backslashreplace").decode("ascii")
