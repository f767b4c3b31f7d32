"""The service's description of itself, and that nothing of it is left out."""

import dataclasses
import json
import re

import pytest
from litestar.testing import TestClient

from api.app import create_app
from api.http import viewer
from api.settings import PARSERS, Settings, SettingsError, from_environment

POSTING = ["/put_user_event", "/forget_user", "/recommendations/batch"]
READING = [
    "/recommendations", "/get_online_u2i", "/get_user_events", "/load_recommendations",
    "/get_statistics", "/health/live", "/health/ready", "/freshness",
    "/search", "/tracks", "/user", "/releases", "/access",
]  # fmt: skip


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    with TestClient(create_app(Settings(work=tmp_path_factory.mktemp("empty")))) as client:
        answers = [client.get(path) for path in ("/schema", "/schema/openapi.json")]
        assert answers[0].json() == answers[1].json()
        return answers[0].json()


def test_the_calls_are_those_of_the_contract(schema):
    methods = {path: sorted(item) for path, item in schema["paths"].items()}
    posted = {key: ["post"] for key in POSTING}
    assert methods == {key: ["get", "post"] for key in READING} | posted | {
        "/metrics": ["get"],
        "/reports/{name}": ["get"],
    }


def test_the_body_of_a_batch_is_described_with_its_bounds(schema):
    body = schema["components"]["schemas"]["ListsWanted"]["properties"]
    assert (body["user_ids"]["minItems"], body["user_ids"]["maxItems"]) == (1, 1000)
    assert (body["k"]["minimum"], body["k"]["maximum"]) == (1, 1000)


def test_every_call_says_what_it_does_and_every_parameter_its_meaning_and_range(schema):
    for item in schema["paths"].values():
        for operation in item.values():
            assert operation["description"]
            for parameter in operation.get("parameters", []):
                assert parameter["in"] == ("path" if parameter["name"] == "name" else "query")
                assert parameter["description"]
                whole = parameter["schema"].get("type") == "integer"
                assert {"minimum", "maximum"} <= parameter["schema"].keys() or not whole


def test_every_status_is_described_with_an_example(schema):
    anywhere = {"401", "403", "413", "429"}
    problems = {"/load_recommendations": {"400", "404", "409", "503"}, "/get_statistics": set()}
    problems |= {"/recommendations/batch": {"400", "503"}}
    problems |= {"/health/live": set(), "/health/ready": {"503"}, "/freshness": {"503"}}
    problems |= {"/metrics": set(), "/access": set(), "/releases": set()}
    problems |= {"/reports/{name}": {"400", "404", "503"}}
    for path, item in schema["paths"].items():
        for operation in item.values():
            responses = operation["responses"]
            assert responses.keys() == {"200"} | anywhere | problems.get(path, {"400", "503"})
            assert all(
                status == "200" or response["content"]["application/json"].get("examples")
                for status, response in responses.items()
            )


def test_settings_are_read_from_the_environment():
    assert from_environment({"PATH": "x"}) == Settings()
    settings = from_environment({"RECO_WORK": "/x", "RECO_ONLINE_EVENTS": "3"})
    assert (str(settings.work), settings.blending_overrides()) == ("/x", {"events": 3})
    for sources in ("similar,next_played", "both"):
        settings = from_environment({"RECO_ONLINE_SOURCE": sources})
        assert settings.blending_overrides() == {"sources": ("similar", "next_played")}
    assert {field.name for field in dataclasses.fields(Settings)} == PARSERS.keys()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RECO_WORK", ""),
        ("RECO_EVENTS_PER_USER", "0"),
        ("RECO_EVENTS_PER_USER", "1001"),
        ("RECO_MAX_USERS", "1e6"),
        ("RECO_MAX_USERS", "9" * 5000),
        ("RECO_RECENT_EVENTS", "-1"),
        ("RECO_CHECK", "none"),
        ("RECO_FOLLOW_SECONDS", "0.5"),
        ("RECO_MAX_AGE_HOURS", "0"),
        ("RECO_BLENDING", "Alternate"),
        ("RECO_ONLINE_SOURCE", ""),
        ("RECO_ONLINE_NEIGHBOURS", "٣"),
        ("RECO_ADMIN_KEY", "short"),
        ("RECO_READ_KEY", "with spaces, which none may have"),
        ("RECO_RATE_LIMIT", "-1"),
        ("RECO_LOG_LEVEL", "info"),
        ("RECO_LOGLEVEL", "INFO"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(variable, value):
    with pytest.raises(SettingsError, match=variable):
        from_environment({variable: value})


def test_the_page_of_the_description_needs_no_other_host_and_no_inline_script(tmp_path):
    with TestClient(create_app(Settings(work=tmp_path))) as client:
        page = client.get("/schema/swagger")
        policy = page.headers["content-security-policy"]
        assert "script-src 'self';" in policy and "http" not in policy
        for found in re.findall(r"<script[^>]*>|<link[^>]*>", page.text):
            assert "json" in found or re.search(r'(src|href)="/schema/files/', found), found
        embedded = re.search(r'id="description">(.*?)</script>', page.text)[1]
        assert json.loads(embedded) == client.get("/schema").json()
        assert client.get("/schema/files/viewer.js").headers["content-type"].startswith("text/java")
        for name in ("..%2fguard.py", "index.html", "viewer.py", "x.js"):
            assert client.get(f"/schema/files/{name}").status_code == 404


def test_the_files_of_the_viewer_are_those_of_the_pinned_package(tmp_path):
    folder = viewer.folder()
    if folder is None:
        pytest.skip("pip install -r requirements.txt")
    with TestClient(create_app(Settings(work=tmp_path))) as client:
        for name in viewer.FILES:
            assert client.get(f"/schema/files/{name}").content == (folder / name).read_bytes()
