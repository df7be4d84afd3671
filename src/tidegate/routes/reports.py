"""statistics/get and status/get: how much has gone, and what waits and why. Made of one picture each."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from tidegate.ledger.orders import EVERYTHING
from tidegate.model import State
from tidegate.routes.wire import cut, fitting, paged, stamp
from tidegate.view.render import POLICIES
from tidegate.view.snapshot import SourceReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tidegate.routes.board import Picture
    from tidegate.view.snapshot import CycleReport

_TOTALS = (
    ("uploaded", "files_stored"),
    ("bytes", "bytes_stored"),
    ("failed", "files_quarantined"),
    ("retries", "retries"),
    ("deleted", "files_deleted"),
    ("moved", "files_moved"),
    ("kept", "files_kept"),
    ("evicted", "files_evicted"),
    ("dropped", "files_dropped"),
    *((word, word) for word in POLICIES),
)
_SHOWN = 3
"""Of files, problems, faults and troubles, so many are named; all are counted."""

_WORDS = (300, 120, 40)
"""How long a text may be; the shorter ones are for when there is much to tell."""

_HEAD_BYTES = 2500
_ROW_BYTES = 2000
_NOTHING = SourceReport()


def statistics(picture: Picture, cursor: str | None) -> dict[str, Any]:
    """Tell of each source the last and the next round, what was done in all, and what waits."""
    rows = [(name, _figures(name, picture)) for name in _names(picture)]
    sums = {name: sum(row["totals"][name] for _, row in rows) for name, _ in _TOTALS}
    backlog = {unit: sum(row["backlog"][unit] for _, row in rows) for unit in ("files", "bytes")}
    ages = [row["backlog"]["oldestSeconds"] for _, row in rows]
    head = fitting(functools.partial(_head, picture), _HEAD_BYTES, _WORDS) | {
        "totals": sums,
        "backlog": backlog | {"oldestSeconds": max((age for age in ages if age is not None), default=None)},
        "events": {
            "waiting": picture.events,
            "dropped": picture.counters.get("", {}).get("events_dropped", 0),
        },
    }
    return paged(head, "sources", rows, cursor)


def status(picture: Picture, cursor: str | None) -> dict[str, Any]:
    """Tell of each source what waits, is held or was passed over; and what is in quarantine."""
    rows = [
        (name, fitting(functools.partial(_state, name, picture), _ROW_BYTES, _WORDS))
        for name in _names(picture)
    ]
    head = fitting(lambda words: _head(picture, words) | _quarantine(picture, words), _HEAD_BYTES, _WORDS)
    return paged(head, "sources", rows, cursor)


def _quarantine(picture: Picture, words: int) -> dict[str, Any]:
    listed = [
        {"path": cut(one.path, words), "key": cut(one.key, words), "reason": cut(one.note or "", words)}
        for one in picture.quarantine[:_SHOWN]
    ]
    return {"quarantine": listed}


def _names(picture: Picture) -> list[str]:
    """List what is configured, and what was and has left something behind."""
    busy = {
        name for name, stands in picture.tally.items() if any(files for files, _ in stands.values())
    } | picture.counters.keys() - {""}
    return sorted(busy | picture.snapshot.sources.keys())


def _head(picture: Picture, words: int) -> dict[str, Any]:
    seen = picture.snapshot
    troubles = [
        {
            "part": cut(part, 100),
            "since": stamp(trouble["since"]),
            "reason": cut(str(trouble["reason"]), words),
        }
        for part, trouble in seen.troubles.items()
    ]
    stuck = {cut(lane, 80): cut(reason, words) for lane, reason in list(seen.lanes.items())[:_SHOWN]}
    return {
        "version": seen.version,
        "thing": cut(picture.thing, 130),
        "at": stamp(picture.at),
        "since": stamp(seen.started_at),
        "ledger": "memory" if picture.in_memory else "disk",
        "paused": EVERYTHING in picture.paused,
        "carriers": {
            "working": not troubles and not seen.lanes,
            "troubles": troubles[:_SHOWN],
            "stuck": stuck,
        },
        "configuration": {
            "faults": [cut(fault, words) for fault in picture.faults[:_SHOWN]],
            "count": len(picture.faults),
        },
    }


def _figures(name: str, picture: Picture) -> dict[str, Any]:
    report = picture.snapshot.sources.get(name, _NOTHING)
    counters = picture.counters.get(name, {})
    ready, sent = _stand(name, State.READY, picture), _stand(name, State.SENT, picture)
    oldest = picture.oldest.get(name)
    return {
        "name": name,
        "paused": _is_paused(name, picture),
        "last": _round(report.last),
        "next": stamp(report.next_at),
        "held": sum(report.holds.values()),
        "quarantined": _stand(name, State.FAILED, picture)["files"],
        "totals": {shown: counters.get(counter, 0) for shown, counter in _TOTALS},
        "backlog": {
            "files": ready["files"] + sent["files"],
            "bytes": ready["bytes"] + sent["bytes"],
            "oldestSeconds": None if oldest is None else max(0, round(picture.at - oldest)),
        },
    } | _inward(report, counters)


def _inward(report: SourceReport, counters: Mapping[str, int]) -> dict[str, Any]:
    """Tell of a download or a socket, beside what is told of every source."""
    if report.kind == "folder":
        return {}
    begin = {"download": "downloads_", "socket": "socket_"}[report.kind]
    totals = {name.removeprefix(begin): value for name, value in counters.items() if name.startswith(begin)}
    return {report.kind: totals | {"last": report.figures, "state": cut(report.state, 200)}}


def _state(name: str, picture: Picture, words: int) -> dict[str, Any]:
    report = picture.snapshot.sources.get(name, _NOTHING)
    return {
        "name": name,
        "paused": _is_paused(name, picture),
        "scanned": stamp(report.scanned_at),
        "found": report.found,
        "waiting": _stand(name, State.READY, picture),
        "inFlight": _stand(name, State.SENT, picture),
        "stored": _stand(name, State.STORED, picture),
        "quarantined": _stand(name, State.FAILED, picture),
        "holds": dict(report.holds),
        "heldFiles": [
            {"path": cut(held.path, words), "why": held.why, "seconds": _rounded(held.seconds)}
            for held in report.held[:_SHOWN]
        ],
        "problems": {
            cut(path, words): cut(what, words) for path, what in list(report.problems.items())[:_SHOWN]
        },
        "space": cut(report.space, words),
    }


def _round(found: CycleReport | None) -> Mapping[str, Any] | None:
    if found is None:
        return None
    return {
        "started": stamp(found.started),
        "finished": stamp(found.finished),
        "found": found.found,
        "uploaded": found.uploaded,
        "failed": found.failed,
        "held": found.held,
        "bytes": found.bytes,
    }


def _stand(name: str, state: State, picture: Picture) -> dict[str, int]:
    files, size = picture.tally.get(name, {}).get(state, (0, 0))
    return {"files": files, "bytes": size}


def _is_paused(name: str, picture: Picture) -> bool:
    return name in picture.paused or EVERYTHING in picture.paused


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
