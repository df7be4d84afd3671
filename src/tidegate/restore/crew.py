"""Threads that work on one thing together, while the thread that asked for it writes down what they did."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SAVE_SECONDS = 1.0
"""A crash repeats what was done in so long."""


def together(
    work: Callable[[], None], hands: int, name: str, *, halt: threading.Event, save: Callable[[], None]
) -> None:
    """Have so many threads do the same work, and return when all have ended.

    `save` is called each second meanwhile, and once more at the end. What it raises, or one of them, has
    `halt` set, and comes out of here when the others have ended, too.
    """
    broken: list[BaseException] = []

    def one() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            broken.append(error)
            halt.set()

    crew = [threading.Thread(target=one, name=f"{name}-{n}", daemon=True) for n in range(hands)]
    for thread in crew:
        thread.start()
    try:
        for thread in crew:
            while thread.is_alive():
                thread.join(SAVE_SECONDS)
                save()
    finally:
        halt.set()
        for thread in crew:
            thread.join()
        save()
    if broken:
        raise broken[-1]
