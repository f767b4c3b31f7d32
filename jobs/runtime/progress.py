"""Progress of long work: a bar on a terminal, and elsewhere a line every 30 seconds.

`progress_bar` takes the arguments of tqdm. Where several jobs write to one terminal, only one may
draw a bar: the others call `only_lines` first.
"""

import sys
from typing import Any

from tqdm import tqdm

LINE_SECONDS = 30.0
_lines = False


def only_lines() -> None:
    """Draw no bars in this process from now on, not even on a terminal."""
    global _lines
    _lines = True


def progress_bar(*arguments: Any, **options: Any) -> Any:
    """Return tqdm's progress bar, or on anything but a terminal one that prints whole lines."""
    options.setdefault("leave", False)
    if not _lines and sys.stderr.isatty():
        return tqdm(*arguments, **options)
    return _Lines(
        *arguments,
        delay=LINE_SECONDS,
        mininterval=LINE_SECONDS,
        maxinterval=LINE_SECONDS,
        **options,
    )


class _Lines(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar that prints a new line each time in place of drawing itself again."""

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Print where the work stands; nothing when the bar is cleared at its end."""
        if msg != "":
            values = self.format_dict
            done = f"{values['n']:,}" + (f" of {values['total']:,}" if values["total"] else "")
            what = values["prefix"] or "progress"
            unit = values["unit"].strip()
            unit = "" if unit == "it" else f" {unit}"
            print(f"{what}: {done}{unit} in {values['elapsed']:.0f} s", file=self.fp, flush=True)
        return True

    def clear(self, nolock: bool = False) -> None:
        """Clear nothing: a line that was printed stays."""

    def close(self) -> None:
        """End without a last line."""
        if not self.disable:
            self.last_print_t = self.start_t  # tqdm takes it for a bar that was never shown
        super().close()
