"""From a source and the environment to the code of a customizer that lies in a bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidegate.customize.names import Namers
from tidegate.customize.shelf import Shelf
from tidegate.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tidegate.config import Source


def namers(
    folder: Path,
    environment: Mapping[str, str],
    *,
    thing: str,
    wall: Callable[[], float],
    only_look: bool = False,
) -> Namers:
    """Make the namers of an agent with this work directory. With `only_look` nothing is written there."""
    fetch = fetcher(environment, thing=thing, wall=wall)
    return Namers(thing, Shelf(folder / "customizers", fetch, only_look=only_look))


def fetcher(
    environment: Mapping[str, str], *, thing: str, wall: Callable[[], float]
) -> Callable[[Source, str, str, int], bytes]:
    """Make what gets an object, the way that files of the source go, if it has no more than so many bytes.

    That raises Unavailable, Refused or S3Error. `wall` is what the device believes the time is.
    """

    def fetch(source: Source, bucket: str, key: str, limit: int) -> bytes:
        from tidegate.carry.direct.connect import way_to  # noqa: PLC0415 - needs a client of S3
        from tidegate.store.calls import Caller  # noqa: PLC0415
        from tidegate.store.library import Library  # noqa: PLC0415

        endpoint, keyring, manner = way_to(source.s3, environment, thing=thing)
        library = Library(Caller(endpoint, keyring, manner=manner, clock=wall))
        try:
            stored = library.stored(bucket, key)
            if stored.size is None or stored.size > limit:
                raise Refused(f"it has more than {limit} bytes")
            return library.whole(bucket, key, stored.etag)[1]
        finally:
            library.close()

    return fetch
