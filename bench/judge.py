"""What was measured beside what was wanted."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = "tidegate"
RIVALS = ("s5cmd", "rclone tuned")
RSS_MB = 60


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time and of processor time, and the peak RSS of the largest process in MB."""

    wall: float
    cpu: float
    rss: float

    def __str__(self) -> str:
        return f"{self.wall:.2f} s, {self.cpu:.2f} s CPU, {self.rss:.0f} MB"


Costs = dict[str, list[Cost]]


def report(name: str, title: str, costs: Costs) -> tuple[str, bool]:
    """Write the table of one workload and its goals, and say whether all of them are met."""
    lines = [
        f"**{name}: {title}.** Medians of {len(next(iter(costs.values())))}.",
        "",
        "| tool | wall s | range | CPU s | peak RSS MB | wall, to the faster rival | CPU, to the faster rival |",
        "|---|---|---|---|---|---|---|",
    ]
    for tool in sorted(costs, key=lambda tool: median(cost.wall for cost in costs[tool])):
        walls = [cost.wall for cost in costs[tool]]
        shown = f"**{tool}**" if tool == OURS else tool
        lines.append(
            f"| {shown} | {median(walls):.2f} | {min(walls):.2f}-{max(walls):.2f}"
            f" | {_middle(costs, tool, 'cpu'):.2f} | {_middle(costs, tool, 'rss'):.0f}"
            f" | {_shown(_ratio(costs, tool, 'wall', RIVALS))} | {_shown(_ratio(costs, tool, 'cpu', RIVALS))} |"
        )
    goals = list(_goals(name, costs)) if OURS in costs and any(peer in costs for peer in RIVALS) else []
    if goals:
        lines += ["", "| tidegate in this workload | measured | goal | met |", "|---|---|---|---|"]
        lines += [
            f"| {what} | {measured:.2f} | {goal} | {'yes' if met else 'NO'} |"
            for what, measured, goal, met in goals
        ]
    return "\n".join(lines), all(met for *_, met in goals)


def _goals(name: str, costs: Costs) -> list[tuple[str, float, str, bool]]:
    peers = tuple(tool for tool in costs if tool != OURS)
    if name.endswith("moto"):  # it takes most of the time itself: shown, and nothing is asked
        return []
    if name == "W1-80ms":
        return [_at_most("wall time, to the fastest peer", _ratio(costs, OURS, "wall", peers), 1)]
    if name in ("W1", "W4"):
        rivals, wall = RIVALS, 1 / 1.5
    else:
        rivals, wall = peers, 1
    whom = "the faster of s5cmd and tuned rclone" if rivals == RIVALS else "the fastest peer"
    memory = max(RSS_MB, min(_middle(costs, peer, "rss") for peer in peers))
    return [
        _at_most(f"wall time, to {whom}", _ratio(costs, OURS, "wall", rivals), wall),
        _at_most(f"CPU, to {whom}", _ratio(costs, OURS, "cpu", rivals), 1),
        _at_most("peak RSS, MB", _middle(costs, OURS, "rss"), memory),
    ]


def _at_most(what: str, measured: float | None, limit: float) -> tuple[str, float, str, bool]:
    assert measured is not None
    return what, measured, f"≤ {limit:.2f}", measured <= limit


def _ratio(costs: Costs, tool: str, what: str, rivals: tuple[str, ...]) -> float | None:
    """The median over the rounds of this tool's cost to that of the rival that was fastest in the round."""
    present = [rival for rival in rivals if rival in costs]
    if not present:
        return None
    wall: Callable[[Cost], float] = lambda cost: cost.wall  # noqa: E731
    return median(
        getattr(mine, what) / getattr(min((costs[rival][number] for rival in present), key=wall), what)
        for number, mine in enumerate(costs[tool])
    )


def _middle(costs: Costs, tool: str, what: str) -> float:
    return median(getattr(cost, what) for cost in costs[tool])


def _shown(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
