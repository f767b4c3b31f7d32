"""List the scripts of this folder with one line each: python -m jobs.

The jobs of a run come first, in their order; then what goes with them.
"""

import ast
from pathlib import Path

from jobs.runtime import cli
from jobs.runtime.up_to_date import FILES

SCRIPTS = Path(__file__).parent


def first_line(script: Path) -> str:
    """Return the first line of a script's docstring; nothing of it is run."""
    return (ast.get_docstring(ast.parse(script.read_bytes())) or "").partition("\n")[0]


def main() -> None:
    """Print the list."""
    scripts = {path.stem: path for path in SCRIPTS.glob("*.py") if not path.stem.startswith("__")}
    for title, names in (
        ("In the order of a run:", list(FILES)),
        ("Beside it:", sorted(scripts.keys() - FILES.keys())),
    ):
        print(title)
        for name in names:
            print(f"  {name:20} {first_line(scripts[name])}")


if __name__ == "__main__":
    with cli.output_that_may_end():
        main()
