"""What the routes work on: one agent, and what it stands on, for as long as it runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from tidegate.agent import Agent
    from tidegate.clock import Clock
    from tidegate.config import Config, Source
    from tidegate.ledger import Books, Ledger
    from tidegate.restoring import Restoring


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One running agent. `posted` are the sources of posted objects; `books` reads the ledger from beside.

    `restoring` brings objects back from archives; None: that is switched off.
    `choose` names the carrier of a source, and why it is that one. `never` are the agent's own folders,
    `archives` the one where bodies of archives are.
    """

    agent: Agent
    config: Config
    raw: Mapping[str, Any]
    ledger: Ledger
    books: Books
    posted: Sequence[Source] = ()
    choose: Callable[[Source], tuple[str, str]]
    thing: str
    never: frozenset[str] = field(default_factory=frozenset)
    folder: Path
    archives: Path
    clock: Clock
    in_memory: bool = False
    restoring: Restoring | None = None

    def source(self, name: str) -> Source | None:
        """Return a source by its name, in any case."""
        for source in self.config.sources:
            if source.name.lower() == name.lower():
                return source
        return None

    def all_sources(self) -> tuple[Source, ...]:
        """Return those that are scanned, and those of posted objects."""
        return (*self.config.sources, *self.posted)
