"""A TCP proxy for load tests: it passes bytes on after a delay, or swallows them."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from loadtest.support.server import free_port


class Proxy:
    """Passes connections to a port of this machine on; its fields may change at any time."""

    def __init__(self, to_port: int, delay: float = 0.0) -> None:
        self.port = free_port()
        self.delay = delay  # seconds that the bytes of one direction are under way
        self.swallows = False  # whether nothing gets through, and nobody is told
        self.to_port = to_port  # of new connections
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        """Listen."""
        listen = asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self._server = self._loop.run_until_complete(listen)
        self._thread.start()

    def stop(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._cancel)
        self._thread.join()

    def _cancel(self) -> None:
        self._server.close()  # so that no connection comes after those that are ended
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.call_later(0.1, self._loop.stop)  # after they have ended

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            there = await asyncio.open_connection("127.0.0.1", self.to_port)
            await asyncio.gather(self._pass(reader, there[1]), self._pass(there[0], writer))
        writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass bytes on in their order, each after the delay."""
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if not self.swallows:
                    self._loop.call_later(self.delay, writer.write, data)
        writer.close()


@contextmanager
def proxy_to(port: int, delay: float = 0.0) -> Iterator[Proxy]:
    """Run a proxy until the block ends."""
    proxy = Proxy(port, delay)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
