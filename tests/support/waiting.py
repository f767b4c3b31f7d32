"""Waiting for what happens in another thread, task or process, however busy the machine is."""

import asyncio
import time
from collections.abc import Callable

PATIENCE = 30  # seconds after which a test fails
PAUSE = 0.02


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as a condition holds; AssertionError if it does not within the patience."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(PAUSE)


async def until(condition: Callable[[], object]) -> None:
    """Do as wait_until does, while other tasks of the event loop go on."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        await asyncio.sleep(PAUSE)
