"""The documentation against the code: each describes all of the other."""

import argparse
import ast
import contextlib
import importlib
import inspect
import json
import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from litestar.testing import TestClient

from api import settings
from api.app import app, create_app
from jobs.contract import journal, results, serving, storage, tables
from jobs.contract.blending import SOURCES, Blending
from jobs.contract.names import CURRENT, MANIFEST, WINDOWS
from jobs.contract.results import ReleaseComparison
from jobs.models.hyperparameters import Hyperparameters
from jobs.ranking.generators import GENERATORS
from tests.support.markdown import CODE, Page, rows, table

ROOT = Path(__file__).parents[1]
README = Page.read(ROOT / "README.md")
DOCS = {page.stem: Page.read(page) for page in sorted((ROOT / "docs").glob("*.md"))}
PAGES = [README, *DOCS.values(), *map(Page.read, sorted((ROOT / "docs/decisions").glob("*.md")))]
NAMES = [str(page.path.relative_to(ROOT)) for page in PAGES]
COMMON = ("--work", "--memory-limit")  # options that the page describes once


class Parsed(Exception):
    """Carries a script's parser out of its main."""


def scripts(package: str) -> list[str]:
    """The modules at the top of a package, each of which is started by its name."""
    return [f"{package}.{path.stem}" for path in sorted((ROOT / package).glob("[a-z]*.py"))]


@cache
def options(script: str) -> dict[str, tuple[Any, list[str]]]:
    """By name the default and the choices of a script's options."""
    if script.startswith("loadtest."):  # not imported: locust patches the standard library
        return declared(ROOT / f"{script.replace('.', '/')}.py")
    main = importlib.import_module(script).main

    def stop(parser: argparse.ArgumentParser, *_: Any, **__: Any) -> None:
        raise Parsed(parser)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, "argv", [script])
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        try:
            main([]) if inspect.signature(main).parameters else main()
        except Parsed as parsed:
            actions = parsed.args[0]._actions
            return {
                name: (action.default, list(action.choices or []))
                for action in actions
                for name in action.option_strings
                if name not in ("-h", "--help")
            }
    raise AssertionError(f"{script} parses no options")


def declared(path: Path) -> dict[str, tuple[Any, list[str]]]:
    """The options that a file adds to a parser, read from its text."""
    result = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            known = {keyword.arg: keyword.value for keyword in node.keywords}
            default = known.get("default")
            if isinstance(default, ast.Call):  # Path("data")
                default = default.args[0]
            name = ast.literal_eval(node.args[0])
            result[name] = (ast.literal_eval(default) if default else None, [])
    return result


def documented(section: str) -> dict[str, tuple[str, list[str]]]:
    """By name the default, as the page has it, and the choices of the options in a section."""
    result = {}
    for first, *others in rows(section):
        name, *values = CODE.findall(first)[0].split()
        choices = values[0].split(r"\|") if values and r"\|" in values[0] else []
        result[name] = (others[0], choices)
    return result


def as_words(value: Any) -> set[str]:
    """A default as words: numbers without needless digits."""
    values = value if isinstance(value, list) else [value]
    return {f"{v:g}" if isinstance(v, float) else str(v) for v in values}


@pytest.mark.parametrize("script", scripts("jobs") + scripts("loadtest"))
def test_every_option_of_every_script_is_described_with_its_default_and_choices(script):
    if script.endswith("__main__"):
        return
    section = DOCS["commands"].section(script)
    shown, found = documented(section), dict(options(script))
    if "Shares the common options" in " ".join(section.split()):
        common = documented(DOCS["commands"].section("Options that all jobs share"))
        shown = {name: common[name] for name in COMMON} | shown
    assert shown.keys() == found.keys()
    for name, (default, choices) in found.items():
        text, shown_choices = shown[name]
        assert shown_choices == choices, name
        if text == "all cores":
            assert default == (os.cpu_count() or 1)
        elif default not in (None, False, ""):
            words = set(re.findall(r"[\w./-]+", text))
            assert as_words(default) <= words, f"{name}: {default} is described as {text}"


def test_the_page_of_commands_describes_no_script_that_is_not_there():
    there = {*scripts("jobs"), *scripts("loadtest")}
    described = {h for h in DOCS["commands"].headings if re.match(r"(jobs|loadtest)\.", h)}
    assert described <= there


def test_every_option_of_run_all_is_described():
    taken = set(re.findall(r"^  (--[a-z-]+) ", run_all("--help").stdout, re.MULTILINE))
    shown = documented(DOCS["commands"].section("run_all.sh"))
    assert shown.keys() == taken | {"--help"}


def calls() -> dict[str, dict[str, Any]]:
    """The calls of the service by path, as its own description has them."""
    return app.openapi_schema.to_schema()["paths"]


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, looked up where it is named only."""
    if "$ref" not in schema:
        return schema
    return app.openapi_schema.to_schema()["components"]["schemas"][schema["$ref"].split("/")[-1]]


def test_every_call_is_described_and_no_other():
    described = {h for h in DOCS["http-api"].headings if h.startswith("/")}
    assert described == calls().keys()
    assert "/schema" in DOCS["http-api"].text


@pytest.mark.parametrize("path", calls())
def test_methods_parameters_and_answers_of_a_call_are_described(path):
    section = DOCS["http-api"].section(path)
    methods = {method.upper() for method in calls()[path]}
    first = section.strip().split(".")[0]
    assert set(re.findall(r"GET|POST", first)) == methods
    operation = next(iter(calls()[path].values()))
    described = {CODE.findall(row[0])[0]: row[1:] for row in rows(section) if len(row) == 4}
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        default, allowed, _ = described[parameter["name"]]
        assert (default == "required") == parameter["required"]
        if "default" in schema:
            assert default == json.dumps(schema["default"])
        if "minimum" in schema:
            assert allowed == f"{int(schema['minimum'])}–{int(schema['maximum'])}"
    for content in operation["responses"]["200"].get("content", {}).values():
        for name in resolved(content["schema"]).get("properties", {}):
            assert f"`{name}`" in section or f'"{name}"' in section


def test_every_status_that_a_call_may_answer_is_described():
    answered = {
        status for call in calls().values() for o in call.values() for status in o["responses"]
    }
    described = table(DOCS["http-api"].section("Errors"))
    assert answered - {"200"} <= described.keys()


def settings_table() -> dict[str, list[str]]:
    return {name: row for name, row in table(DOCS["settings"].text).items()
            if name.startswith(settings.PREFIX)}  # fmt: skip


def test_every_setting_is_described_and_no_other():
    names = [settings.PREFIX + field.name.upper() for field in fields(settings.Settings)]
    assert sorted(settings_table()) == sorted(names)


def accepted(variables: dict[str, str]) -> bool:
    if any(name.startswith("RECO_EVENTS_") for name in variables):
        variables = {"RECO_EVENTS": "valkey://localhost"} | variables
    try:
        settings.from_environment(variables)
    except settings.SettingsError:
        return False
    return True


@pytest.mark.parametrize("name", settings_table())
def test_a_setting_has_the_default_and_takes_the_values_that_are_described(name):
    default, allowed, _ = settings_table()[name]
    value = getattr(settings.Settings(), name.removeprefix(settings.PREFIX).lower())
    if value is not None:
        assert default.strip("`") == str(value)
    if whole := re.fullmatch(r"(\d+)–(\d+)", allowed):
        low, high = map(int, whole.groups())
        taken = {n: accepted({name: str(n)}) for n in (low - 1, low, high, high + 1)}
        assert taken == {low - 1: False, low: True, high: True, high + 1: False}
    elif values := CODE.findall(allowed):
        assert [v for v in values if not accepted({name: v})] == []
        assert not accepted({name: "nonsense"})
    elif "characters" in allowed:
        other = {"RECO_ADMIN_KEY": "k" * 16}
        lengths = {n: accepted(other | {name: "x" * n}) for n in (15, 16, 256, 257)}
        assert lengths == {15: False, 16: True, 256: True, 257: False}


def named_type(found: pa.DataType) -> str:
    """A column's type as the page names it."""
    return f"list of {found.value_type}" if pa.types.is_list(found) else str(found)


@pytest.mark.parametrize("file", tables.TABLES)
def test_every_column_of_a_table_is_described(file):
    declared_table, section = tables.TABLES[file], DOCS["files"].section(file)
    described = [(CODE.findall(name)[0], kind) for name, kind, _ in rows(section)]
    assert described == [(field.name, named_type(field.type)) for field in declared_table.schema]
    order = ", ".join(f"`{column}`" for column in declared_table.order)
    text = " ".join(section.split())
    assert f"Made by `{declared_table.made_by}`" in text
    assert f"sorted by {order}." in text or not order


def test_every_serving_array_is_described():
    described = table(DOCS["files"].section("Serving arrays"))
    assert {name: row[0] for name, row in described.items()} == {
        name: str(dtype)
        for name, dtype in (serving.SERVING_ARRAYS | serving.OPTIONAL_ARRAYS).items()
    }


def test_every_table_of_the_services_own_files_is_described():
    section = DOCS["files"].section("The service's own files")
    described = {tuple(CODE.findall(" ".join(row[:3]))) for row in rows(section)}
    declared_tables = set()
    for file, schema in (
        ("events.db", journal.JOURNAL_SCHEMA), ("forgotten.db", journal.FORGOTTEN_SCHEMA),
    ):  # fmt: skip
        with contextlib.closing(sqlite3.connect(":memory:")) as db:
            db.executescript(schema)
            for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'"):
                columns = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
                declared_tables.add((file, name, *columns))
    assert described == declared_tables


def keys_of(work: Path, name: str) -> set[str]:
    """The keys of a JSON file that a run has made."""
    if name == "comparison.json":
        return set(ReleaseComparison.__struct_fields__)
    folder = {MANIFEST: CURRENT, "split.json": "windows/test"}.get(name, ".")
    return set(storage.read_json(work / folder / name, made_by="jobs.run"))


@pytest.mark.parametrize(
    "name",
    ["settings.json", "split.json", "clock.json", "ranking.json", "metrics.json", "replay.json",
     "comparison.json", MANIFEST],
)  # fmt: skip
def test_every_key_of_a_json_file_is_described(name, finished):
    described = set(table(DOCS["files"].section(name)))
    sometimes = {"lists_by_id", "peers", "peer_settings", "ablation", "ids", "mixed_processors"}
    sometimes |= {"als_like_weight", "als_by_share"}
    assert described - sometimes == keys_of(finished, name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("split.json", results.Split),
        ("forgotten.json", results.ForgottenUntil),
        ("kinds.json", results.KindsOfRows),
        ("clock.json", results.Clock),
        ("ranking.json", results.Ranking),
        ("replay.json", results.Replay),
        ("Blending", Blending),
        (MANIFEST, results.Manifest),
    ],
)
def test_every_key_of_a_struct_of_the_contract_is_described(name, kind):
    described = table(DOCS["files"].section(name))
    assert list(described) == [field.encode_name for field in msgspec.structs.fields(kind)]


def as_text(value: Any) -> str:
    """A default as a page has it."""
    if isinstance(value, tuple):
        return ", ".join(value)
    return {None: "null", msgspec.UNSET: "none"}.get(value, str(value))


def test_defaults_of_generators_and_of_blending_are_described():
    for section, kind in (("settings.json", Hyperparameters()), ("Blending", Blending())):
        described = table(DOCS["files"].section(section))
        for name, (default, _) in described.items():
            value = getattr(kind, name)
            assert default.strip("`") == as_text(value), name


def test_every_file_that_a_run_makes_is_in_the_tree(finished):
    made = {path.name for path in finished.rglob("*") if path.is_file() and path.suffix != ".npy"}
    text = DOCS["files"].text
    assert [name for name in made if name not in text] == []


def test_generators_sources_and_windows_are_explained():
    described = table(DOCS["how-it-works"].section("Generators"))
    assert list(described) == list(GENERATORS)
    for name, (_, files) in described.items():
        made_from = [table.file for table in GENERATORS[name].made_from]
        assert re.findall(r"`([^`]+)`", files) == made_from
    assert list(table(DOCS["blending"].section("The two lists"))) == list(SOURCES)
    entries = re.findall(r"^\*\*([^*]+)\*\* —", DOCS["glossary"].text, re.MULTILINE)
    terms = {term.lower() for entry in entries for term in entry.split(", ")}
    assert {*GENERATORS, *WINDOWS} <= terms
    assert entries == sorted(entries, key=str.lower)


def test_every_job_of_a_run_is_in_the_flow():
    flow = re.findall(r"[│▼] (\w+) ", DOCS["how-it-works"].blocks[0].text)
    text = (ROOT / "run_all.sh").read_text()
    done = re.findall(r"^ *job \"?(\w+)|^  for name in ([\w ]+);", text, re.MULTILINE)
    started = {name for one, many in done for name in (many.split() if many else [one])}
    assert started - {"name"} <= set(flow)


def test_every_metric_and_alert_is_described(finished, tmp_path):
    with TestClient(create_app(settings.Settings(work=finished, state=tmp_path))) as client:
        told = client.get("/metrics").text
    described = table(DOCS["operating"].section("Monitoring"))
    names = set(re.findall(r"^# TYPE (reco_\w+)", told, re.MULTILINE))
    assert {name for name in described if name.startswith("reco_")} == names
    alerts = re.findall(r"alert: (\w+)", (ROOT / "api/deploy/alerts.yml").read_text())
    assert list(table(DOCS["operating"].section("Alerts"))) == alerts


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_link_leads_somewhere(page):
    broken = []
    for link in page.links:
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.path.parent / name).resolve() if name else page.path
        if not target.exists() or (anchor and anchor not in Page.read(target).anchors):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_paths_scripts_and_settings_that_a_page_names_are_there(page):
    text = "\n".join(page.code)
    paths = re.findall(r"(?<![\w/.])((?:jobs|api|loadtest|tests)/[\w/.-]*\w)", text)
    paths = [path for path in paths if path != "loadtest/report.html"]  # made by a load test
    assert [path for path in paths if not (ROOT / path).exists()] == []
    modules = re.findall(r"-m ((?:jobs|loadtest)\.\w+)|`((?:jobs|loadtest)\.\w+)`", text)
    there = {*scripts("jobs"), *scripts("loadtest"), "jobs.NAME"}
    assert {name for pair in modules for name in pair if name} <= there
    names = {settings.PREFIX + field.name.upper() for field in fields(settings.Settings)}
    assert set(re.findall(r"\bRECO_[A-Z_]+\b", page.text)) - {settings.PREFIX} <= names


def test_every_page_is_linked_from_the_readme_or_from_its_own_list():
    lists = [README, *(page for page in PAGES if page.path.parent.name == "decisions")]
    linked = {(page.path.parent / link.partition("#")[0]).resolve() for page in lists
              for link in page.links}  # fmt: skip
    assert {page.path for page in PAGES} - {README.path} <= linked


def test_the_readme_is_short():
    assert len(README.text.splitlines()) <= 120


def run_all(*arguments: str) -> subprocess.CompletedProcess:
    command = ["bash", str(ROOT / "run_all.sh"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def test_run_all_explains_every_option_that_it_takes():
    accepted = set(re.findall(r"--[a-z-]+(?= \||\))", (ROOT / "run_all.sh").read_text()))
    shown = run_all("--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    explained = set(re.findall(r"^  (--[a-z-]+) ", shown.stdout, re.MULTILINE))
    assert explained == accepted - {"--help"}


def test_run_all_forwards_the_options_of_the_jobs_that_need_any():
    taken = set(re.findall(r"--[a-z-]+", run_all("--help").stdout))
    needed = set().union(*(options(f"jobs.{job}") for job in ("prepare", "windows", "tune")))
    assert needed <= taken


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--colour", "red"], "unknown option --colour"),
        (["--heard", "exclude", "--nothing=1"], "unknown option --nothing"),
        (["--work"], "--work needs a value"),
        (["--tune", "off", "stray"], "unknown option stray"),
    ],
)
def test_run_all_refuses_what_it_does_not_know(arguments, says):
    refused = run_all(*arguments)
    assert refused.returncode == 2
    assert says in refused.stderr
    assert "--help" in refused.stderr or "--max-bad-share" in refused.stderr
