"""The load test on a release with text ids, against a running service."""

from tests.loadtest.test_loadtest import locust
from tests.support import releases
from tests.support.releases import TEXTS
from tests.support.server import litestar_run


def test_every_rule_is_checked_and_holds_with_text_ids(tmp_path):
    work = tmp_path / "work"
    releases.make(work, text=TEXTS)
    with litestar_run(work) as running:
        run = locust(tmp_path, work, running.url)
        output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert "Error report" not in output and "/put_user_event" in output
