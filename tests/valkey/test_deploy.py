"""The files of api/deploy/valkey work as they stand: configuration, ACL, proxy, units, alerts."""

import re
import shutil
import subprocess
from contextlib import ExitStack

import httpx
import pytest

from jobs import export_events
from jobs.contract.valkey import parse_server
from tests.api.release.test_answers import client_of
from tests.support import releases
from tests.support.server import ROOT, free_port, litestar_run
from tests.support.waiting import wait_until

DEPLOY = ROOT / "api/deploy"
PASSWORD = "change-this-password"


def configured(start):
    """A server with the lines of valkey.conf, but for its folder and its port, and users.acl."""
    lines = re.findall(r"^([a-z-]+) +(.*?)(?: +#.*)?$", (DEPLOY / "valkey/valkey.conf").read_text(),
                       re.MULTILINE)  # fmt: skip
    options = {
        name.replace("-", "_"): "" if value == '""' else value
        for name, value in lines
        if name not in ("dir", "port")
    }
    assert options["appendfsync"] == "always"
    return start(**options, aclfile=str(DEPLOY / "valkey/users.acl"))


def with_user(server):
    return server.address.replace("//", "//reco@")


def test_the_user_of_the_acl_may_do_all_that_services_and_jobs_need(tmp_path, start, monkeypatch):
    releases.make(tmp_path, text=releases.TEXTS)
    address = with_user(configured(start))
    user, track = releases.named(47), releases.named(5)
    with client_of(tmp_path, events=parse_server(address), events_password=PASSWORD) as service:
        service.put(user, track)
        assert service.answer("/get_user_events", user_id=user) == {"events": [track]}
        service.answer("/forget_user", "POST", user_id=user)
        service.put(user, track)
        assert service.answer("/health/ready")["journal"] == "ok"
        monkeypatch.setenv("RECO_EVENTS_PASSWORD", PASSWORD)
        summary = export_events.main(["--work", str(tmp_path), "--store", address])
        assert summary.startswith("1 new events")


@pytest.mark.skipif(not shutil.which("nginx"), reason="needs nginx, of Debian's nginx-light")
def test_two_services_behind_a_proxy_without_sticky_users_read_their_writes(tmp_path, start):
    releases.make(tmp_path)
    address, ports = with_user(configured(start)), []
    with ExitStack() as stack:
        for _ in range(2):
            settings = {"EVENTS": address, "EVENTS_PASSWORD": PASSWORD, "LOG_LEVEL": "WARNING"}
            running = stack.enter_context(litestar_run(tmp_path, **settings))
            ports.append(running.port)
        own = free_port()
        text = (DEPLOY / "nginx.conf").read_text().replace("listen 8080", f"listen 127.0.0.1:{own}")
        text = re.sub(r" *hash \$arg_user_id consistent;.*\n", "", text)  # as operating.md says
        for port, instead in zip((8001, 8002), ports, strict=True):
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{instead}")
        (tmp_path / "nginx.conf").write_text(text)
        proxy = subprocess.Popen(
            ["nginx", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
        )
        stack.callback(lambda: (proxy.terminate(), proxy.wait()))
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{own}"))
        wait_until(lambda: shutil.which("nginx") and _answers(client))
        for item in range(1, 41):
            client.post(f"/put_user_event?user_id=9&item_id={item}").raise_for_status()
            found = client.get("/get_user_events?user_id=9&k=100").json()["events"]
            assert found == [*range(item, 0, -1)]
        for port in ports:
            told = httpx.get(f"http://127.0.0.1:{port}/metrics").text
            asked = re.findall(r'seconds_count\{route="/(?:put|get)_user_events?"\} (\d+)', told)
            assert sum(map(int, asked)) > 10


def _answers(client):
    try:
        return client.get("/health/live").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_accepts_the_units():
    units = sorted(map(str, (DEPLOY / "valkey").glob("*.service")))
    done = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_alerts_ask_for_metrics_that_there_are(tmp_path, valkey):
    releases.make(tmp_path)
    asked = set(re.findall(r"\breco_[a-z_]+\b", (DEPLOY / "valkey/alerts.yml").read_text()))
    with client_of(tmp_path, events=parse_server(valkey.address)) as service:
        told = service.get("/metrics").text
    assert len(asked) == 3
    assert [name for name in asked if name not in told] == []
