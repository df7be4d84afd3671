"""The SDK's client, made to live exactly as long as one connection. It knows nothing of streams.

Version 1.1.2 of the SDK keeps a thread with an event loop for each client, and lets go of neither when
something goes wrong; each of these was seen with the unmodified package:

- `close` waits for unsent bytes; on a dead connection that raises, and thread, loop and socket stay;
- so they do after a constructor that fails, whose caller has nothing to close;
- when the server hangs up, the client connects anew by itself and forgets to close the old socket;
- when the connection is reset, or a reply comes after its time-out, nobody reads any more, yet the client
  stays "connected": who waits for a reply waits for the whole time-out, and so do all later calls;
- a reply whose first five bytes come in two pieces is taken for another one.

There is no public way around any of it, so this module reaches into the client.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

_T = TypeVar("_T")
_PRIVATE = "_StreamManagerClient__"


class Connection:
    """One connection. Once it is lost, or was ended, every call fails at once and nothing is left of it.

    Safe to use from several threads.
    """

    def __init__(self, client: Any) -> None:
        """`client` is the SDK's, before its constructor has run."""
        self._client = client
        self._gate = threading.Lock()
        self._calls = 0
        self._ended = False
        self._reach_in()

    @property
    def ended(self) -> bool:
        """Whether it is good for nothing any more."""
        return self._ended

    def open(self, **arguments: Any) -> None:
        """Connect, once. `arguments` are those of the client's constructor; raises whatever that raises."""
        try:
            self.ask(lambda client: client.__init__(**arguments))
        except BaseException:
            self.end()
            raise

    def ask(self, question: Callable[[Any], _T]) -> _T:
        """Call a method of the client. Raises whatever it raises; CancelledError when the connection ends."""
        with self._gate:
            if self._ended:
                raise ConnectionAbortedError("the connection has ended")
            self._calls += 1
        try:
            return question(self._client)
        finally:
            with self._gate:
                self._calls -= 1
                if self._ended and not self._calls:
                    self._in_loop(self._finish)

    def ask_all(self, questions: Callable[[Any], Iterable[Awaitable[_T]]]) -> list[_T | BaseException]:
        """Put many questions to the client's own loop at once; return the answers or what went wrong.

        One by one, each would cost two changes of threads, and twice the processor time in all.
        """

        async def every(client: Any) -> list[_T | BaseException]:
            return await asyncio.gather(*questions(client), return_exceptions=True)

        def run(client: Any) -> list[_T | BaseException]:
            loop = vars(client)[f"{_PRIVATE}loop"]
            return asyncio.run_coroutine_threadsafe(every(client), loop).result()

        return self.ask(run)

    def end(self) -> None:
        """Hang up. Nothing is waited for; calls under way fail."""
        with self._gate:
            if self._ended:
                return
            self._ended = True
            # The loop runs until the last call has left: one that had just begun would wait for ever.
            self._in_loop(self._abort if self._calls else self._finish)

    def join(self, seconds: float) -> None:
        """Wait until nothing is left of a connection that has ended."""
        thread = vars(self._client).get(f"{_PRIVATE}event_loop_thread")
        if thread is not None and thread.is_alive():
            thread.join(seconds)

    def _reach_in(self) -> None:
        """Have the client connect only once, read whole pieces, and tell when it reads no more."""
        connect = getattr(self._client, f"{_PRIVATE}connect")
        is_first = True

        async def connect_once() -> None:
            nonlocal is_first
            if not is_first:
                raise ConnectionAbortedError("the connection was lost")
            is_first = False
            await connect()
            reader = getattr(self._client, f"{_PRIVATE}reader")
            reader.read = reader.readexactly
            for task in asyncio.all_tasks() - {asyncio.current_task()}:  # the one that reads
                task.add_done_callback(lambda _: self.end())

        setattr(self._client, f"{_PRIVATE}connect", connect_once)

    def _in_loop(self, function: Callable[[], object]) -> None:
        loop = vars(self._client).get(f"{_PRIVATE}loop")
        if loop is not None:
            loop.call_soon_threadsafe(function)

    def _abort(self) -> set[asyncio.Task[Any]]:
        """Close the socket whatever state it is in, and cancel whoever waits for something."""
        self._client.connected = False
        writer = vars(self._client).get(f"{_PRIVATE}writer")
        if writer is not None:
            writer.transport.abort()
        tasks = asyncio.all_tasks()
        for task in tasks:
            task.cancel()
        return tasks

    def _finish(self) -> None:
        """Let the cancelled come to their end, then stop the loop; its thread closes it and ends."""
        ending = asyncio.gather(*self._abort(), return_exceptions=True)
        ending.add_done_callback(lambda _: asyncio.get_running_loop().stop())
