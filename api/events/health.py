"""Whether the journal works: what failed last, shown in the service's state and logged once."""

import logging

logger = logging.getLogger("api")


class JournalHealth:
    """The tasks that failed when they were last tried, and why."""

    def __init__(self) -> None:
        self._failures: dict[str, str] = {}

    @property
    def problem(self) -> str | None:
        """Why the journal cannot be used now; None while it works."""
        return next(iter(self._failures.values()), None)

    def note_failure(self, task: str, error: Exception) -> None:
        """Note that a task failed; the log says so once, not at each try with the same result."""
        if self._failures.get(task) != str(error):
            self._failures[task] = str(error)
            logger.error("Perhaps events cannot be stored: %s", error)

    def note_success(self, task: str) -> None:
        """Note that a task succeeded."""
        if self._failures.pop(task, None):
            logger.warning("The journal works again")
