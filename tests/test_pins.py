"""jobs.pins: what is renewed and what is reported."""

import sys

import pytest

from jobs import pins
from jobs.contract import JobError


def test_pins_are_renewed_and_all_else_stays():
    text = "# data\nnumpy==1.0\nscikit_learn==1.2.0\n# tests\npytest==9.0\n"
    found = {"numpy": "2.0", "scikit-learn": "1.3.0", "other": "1"}
    assert pins.renewed(text, found) == text.replace("1.0", "2.0").replace("1.2.0", "1.3.0")


def test_vulnerable_pins_are_named_and_those_not_looked_up_counted():
    flaw = {"id": "PYSEC-1", "fix_versions": ["2.0"]}
    report = {
        "dependencies": [
            {"name": "a", "version": "1.0", "vulns": [flaw]},
            {"name": "b", "version": "1.0", "vulns": []},
            {"name": "c", "skip_reason": "not found"},
        ]
    }
    assert pins.audited(report) == (["a 1.0 (PYSEC-1)"], 1)


def test_a_tool_that_is_not_there_is_named():
    with pytest.raises(JobError, match=r"No module named nothing.*pip install pip-audit"):
        pins.run([sys.executable, "-m", "nothing"], (0, 1))


def test_every_line_of_the_requirements_is_a_pin_or_a_heading():
    lines = pins.REQUIREMENTS.read_text().splitlines()
    assert all(line.startswith("#") or pins.PIN.match(line) for line in lines)
