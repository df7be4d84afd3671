"""How jobs look to people: a line that is drawn over itself, a table, and all about one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tidegate.restore.journal import Journal

_WIDTH = 20
_CLEAR = "\r\x1b[K"


def state(journal: Journal) -> dict[str, Any]:
    """Tell all about a job as plain values."""
    spec, notes, counts = journal.spec, journal.notes(), journal.counts()
    return {
        "id": spec.id,
        "status": notes.get("status", "Restoring"),
        "phase": journal.phase().value,
        "percent": notes.get("percent", 0),
        "counts": counts.as_json(),
        "failures": journal.failure_codes(),
        "etaSeconds": round(notes.get("eta") or 0),
        "tier": notes.get("tier", spec.tier),
        "days": spec.days,
        "engine": spec.engine,
        "selection": "a list of keys" if spec.listed else f"s3://{spec.bucket}/{spec.prefix}",
        "created": spec.created,
        "tag": spec.tag,
        "trouble": notes.get("trouble") or "",
        "reason": notes.get("reason") or "",
        "batchJobs": [
            {"id": it["id"], "status": it["status"], "round": it["round"]} for it in notes.get("batches", ())
        ],
        "plan": notes.get("plan"),
        "namedTwice": notes.get("twice", 0),
        "unproven": notes.get("unproven", 0),
    }


def bar(said: Mapping[str, Any], width: int) -> str:
    """Draw one line of `width` columns at most, over the last one."""
    counts = said["counts"]
    full = said["percent"] * _WIDTH // 100
    there = counts["ready"] + counts["open"] + counts["fetched"]
    words = [
        f"{said['status']} [{'#' * full}{'.' * (_WIDTH - full)}] {said['percent']:3} %",
        said["phase"],
        f"{there} of {counts['total']}",
    ]
    if counts["failed"]:
        words.append(f"{counts['failed']} failed")
    if said["etaSeconds"] and said["status"] == "Restoring":
        words.append(f"{span(said['etaSeconds'])} left")
    if said["trouble"]:
        words.append(said["trouble"])
    return _CLEAR + printable("  ".join(words))[: max(20, width - 1)]


def above(text: str) -> str:
    """Write a line in whole over the one that is drawn over itself, which is drawn again below."""
    return _CLEAR + printable(text)


def table(jobs: Sequence[Mapping[str, Any]]) -> str:
    """Draw one line for each job."""
    rows = [("JOB", "STATUS", "%", "OBJECTS", "FAILED", "TIER", "WHAT")]
    rows += [
        (
            *(job["id"], job["status"], str(job["percent"]), str(job["counts"]["total"])),
            *(str(job["counts"]["failed"]), job["tier"], printable(job["selection"])),
        )
        for job in jobs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def details(said: Mapping[str, Any]) -> str:
    """Draw all about one job."""
    counts = {name: number for name, number in said["counts"].items() if number}
    lines = [
        ("job", said["id"]),
        ("what", said["selection"]),
        ("order", f"{said['tier']}, {said['days']} day(s), by the engine {said['engine']}"),
        ("status", f"{said['status']}, {said['percent']} % ({said['phase']})"),
        ("objects", ", ".join(f"{number} {name}" for name, number in counts.items()) or "none yet"),
        ("failed", ", ".join(f"{number} with {code}" for code, number in said["failures"].items())),
        ("left", f"about {span(said['etaSeconds'])}" if said["etaSeconds"] else ""),
        ("batch jobs", ", ".join(f"{it['id']} ({it['status']})" for it in said["batchJobs"])),
        ("unproven", f"{said['unproven']} file(s), by their size alone" if said["unproven"] else ""),
        ("trouble", said["trouble"]),
        ("reason", said["reason"]),
        ("tag", said["tag"]),
    ]
    return "\n".join(f"{name + ':':12}{printable(text)}" for name, text in lines if text)


def planned(said: Mapping[str, Any]) -> str:
    """Draw what a plan has found."""
    lines = [f"{said['objects']} object(s), {size(said['bytes'])}; {said['requests']} to be asked for"]
    words = {
        "wanted": "to be asked for",
        "already": "under way already",
        "ready": "restored already, for long enough",
        "open": "in no archive",
        "failed": "not there",
    }
    lines += [
        f"  {it['objects']:>10}  {size(it['bytes']):>10}  {words[name]}"
        for name, it in said["byState"].items()
    ]
    lines += [f"with {tier}: all there after about {span(time)}" for tier, time in said["seconds"].items()]
    return "\n".join(lines)


def size(count: float) -> str:
    """Write bytes."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def span(seconds: float) -> str:
    """Write a time in the two largest units that it has."""
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86_400)
    if days:
        return f"{days} d {hours % 24} h"
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds % 60)} s" if minutes else f"{int(seconds)} s"


def printable(text: str) -> str:
    """Make sure that a text stays on its line, whatever keys are in it."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
