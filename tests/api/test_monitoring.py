"""What Prometheus is told is what happened; rules and dashboard name only what there is."""

import json
import re
import shutil
import subprocess

import pytest
from litestar.testing import TestClient
from prometheus_client.parser import text_string_to_metric_families as families

from api.app import create_app
from api.settings import Settings
from tests.support import releases
from tests.support.server import ROOT

MONITORING = ROOT / "api/deploy"


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """The samples after some calls, by name and label values."""
    work = tmp_path_factory.mktemp("work")
    releases.make(work, "first")
    (releases.make(work, "broken", activate=False) / "manifest.json").unlink()
    with TestClient(create_app(Settings(work=work, max_users=2))) as client:
        for user in (47, 47, 9):
            assert client.get(f"/recommendations?user_id={user}").status_code == 200
        assert client.get("/recommendations?user_id=x").status_code == 400
        assert client.get("/nothing/123456789").status_code == 404
        assert client.get("/load_recommendations?release=broken").status_code == 409
        for user, item in ((1, 5), (2, 5), (3, 6), (123456789, 301)):
            client.post(f"/put_user_event?user_id={user}&item_id={item}")
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        return {
            (sample.name, *sample.labels.values()): sample.value
            for family in families(answer.text)
            for sample in family.samples
        }


def test_the_metrics_are_what_happened(samples):
    expected = {
        ("reco_request_seconds_count", "/recommendations"): 4,
        ("reco_request_seconds_count", "/put_user_event"): 4,
        ("reco_request_seconds_count", "other"): 1,
        ("reco_errors_total", "/recommendations", "400"): 1,
        ("reco_errors_total", "other", "404"): 1,
        ("reco_errors_total", "/load_recommendations", "409"): 1,
        ("reco_answers_total", "personal"): 2,
        ("reco_answers_total", "default"): 1,
        ("reco_events_total",): 4,
        ("reco_unknown_tracks_total",): 1,
        ("reco_evicted_users_total",): 2,
        ("reco_users_with_events",): 2,
        ("reco_swaps_total",): 1,
        ("reco_refusals_total",): 1,
        ("reco_journal_works",): 1,
        ("reco_journal_lag_seconds",): 0,
        ("reco_release_served",): 1,
        ("reco_release", "first"): 1,
        ("reco_release_max_age_seconds",): 48 * 3600,
    }
    assert {key: samples.get(key) for key in expected} == expected
    assert samples["reco_release_age_seconds",] > 365 * 24 * 3600


def test_no_label_has_an_id(samples):
    assert not [key for key in samples if any("123456789" in part for part in key)]


def test_without_a_release_the_metrics_say_so(tmp_path):
    with TestClient(create_app(Settings(work=tmp_path, journal="off"))) as client:
        text = client.get("/metrics").text
    assert "reco_release_served 0.0" in text
    assert "reco_release_age_seconds" not in text


def test_alerts_and_dashboard_ask_for_metrics_that_there_are(samples):
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    expressions = [t["expr"] for panel in dashboard["panels"] for t in panel["targets"]]
    text = "\n".join([*expressions, (MONITORING / "alerts.yml").read_text()])
    asked = set(re.findall(r"\b(?:reco|process)_[a-z_]*[a-z]\b", text))
    assert len(asked) > 10
    assert asked - {key[0] for key in samples} == set()


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of Debian's prometheus")
@pytest.mark.parametrize("what", [("rules", "alerts.yml"), ("config", "prometheus.yml")])
def test_prometheus_accepts_the_rules(what):
    command = ["promtool", "check", what[0], str(MONITORING / what[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
