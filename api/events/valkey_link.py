"""Keeps a session with Valkey: connects whenever there is none, for as long as the service runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from api.events.health import JournalHealth
from api.events.valkey_client import Lost, Refused
from api.events.valkey_session import Session, Target, open_session

logger = logging.getLogger("api")

RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4)  # between two tries to connect; then always the last


class Link:
    """The session of a store, if there is one now.

    `begin(session)` is awaited before a session is used: what it raises (Lost, Refused) ends it.
    `lost(error)` is called when there is none, and `recovered()` is awaited when there is one again
    after a try that failed. `tried` is set after the first try.
    """

    def __init__(
        self,
        target: Target,
        health: JournalHealth,
        begin: Callable[[Session], Awaitable[None]],
        lost: Callable[[], None],
        recovered: Callable[[], Awaitable[None]],
    ) -> None:
        self.session: Session | None = None
        self.verified = True  # whether Valkey showed its settings
        self.tried = asyncio.Event()
        self._target, self._health = target, health
        self._begin, self._lost, self._recovered = begin, lost, recovered

    async def keep(self) -> None:
        """Connect, and connect again whenever the session ended."""
        failures = 0
        while True:
            session = await self._opened()
            if session is None:
                self.tried.set()
                await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1
                continue
            failed_before, failures = failures > 0 or self.tried.is_set(), 0
            self.session, self.verified = session, session.verified
            for task in ("session", "put"):
                self._health.note_success(task)
            self.tried.set()
            if failed_before:
                await self._recovered()
            await session.ended.wait()
            self.session = None
            self._note_lost(Lost(session.reason))

    async def _opened(self) -> Session | None:
        """Return a session that can be used; None if there is none, after a note of the reason."""
        session = None
        try:
            session = await open_session(self._target)
            await self._begin(session)
        except Exception as error:
            if not isinstance(error, Lost | Refused):
                logger.exception("A session with Valkey could not begin")
            if session:
                session.end(str(error))
            self._note_lost(error)
            return None
        return session

    def _note_lost(self, error: Exception) -> None:
        self._health.note_failure("session", error)
        self._lost()
