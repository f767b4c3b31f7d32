"""Look for newer releases of what requirements.txt pins, and for pins known to be vulnerable.

    python -m jobs.pins [--write]

pip finds the newest releases that fit together; --write puts them into requirements.txt: run the
tests before you keep that. pip-audit, where it is installed (pip install pip-audit), asks the
registry for known vulnerabilities of the pins; any makes the exit code 1. What the registry says
nothing about is counted.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from jobs.contract import JobError

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)$", re.MULTILINE)


def main() -> str:
    """Compare, write where that is asked for, and audit; the summary."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="renew the pins in requirements.txt")
    options = parser.parse_args()
    text = REQUIREMENTS.read_text()
    found = newest([name for name, _ in PIN.findall(text)])
    changed = renewed(text, found)
    for old, new in zip(text.splitlines(), changed.splitlines(), strict=True):
        if old != new:
            print(f"{old} -> {new.split('==')[1]}")
    if options.write:
        REQUIREMENTS.write_text(changed)
    known, unknown = audited(audit(REQUIREMENTS))
    if known:
        raise JobError(f"known to be vulnerable: {'; '.join(known)}. Renew these pins")
    return f"no pin is known to be vulnerable; {unknown} could not be looked up"


def newest(names: list[str]) -> dict[str, str]:
    """By name (as the registry spells it) the newest releases that fit together, if newer."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        options = ["--dry-run", "--upgrade", "--quiet", "--report", str(report), *names]
        run([sys.executable, "-m", "pip", "install", *options])
        installs = json.loads(report.read_text())["install"]
    return {plain(each["metadata"]["name"]): each["metadata"]["version"] for each in installs}


def renewed(text: str, found: dict[str, str]) -> str:
    """The requirements with the versions that were found; all else stays."""
    return PIN.sub(lambda pin: f"{pin[1]}=={found.get(plain(pin[1]), pin[2])}", text)


def plain(name: str) -> str:
    """A package's name in the one spelling that compares (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def audit(path: Path) -> dict[str, Any]:
    """What pip-audit says of each pin."""
    options = ["--requirement", str(path), "--no-deps", "--disable-pip", "--format", "json"]
    found: dict[str, Any] = json.loads(run([sys.executable, "-m", "pip_audit", *options], (0, 1)))
    return found


def audited(report: dict[str, Any]) -> tuple[list[str], int]:
    """Vulnerable pins with what they have, and how many could not be looked up."""
    known = [
        f"{pin['name']} {pin['version']} ({', '.join(flaw['id'] for flaw in pin['vulns'])})"
        for pin in report["dependencies"]
        if pin.get("vulns")
    ]
    return known, sum("skip_reason" in pin for pin in report["dependencies"])


def run(command: list[str], good: tuple[int, ...] = (0,)) -> str:
    """What a command prints; JobError with its last line where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in good or not (done.stdout or good == (0,)):
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        needed = ": pip install pip-audit" if "No module named" in last else ""
        raise JobError(f"{' '.join(command[1:4])} failed ({last}){needed}")
    return done.stdout


if __name__ == "__main__":
    try:
        print(main())
    except JobError as error:
        sys.exit(f"pins: {error}")
