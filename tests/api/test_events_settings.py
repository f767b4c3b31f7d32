"""Settings of Valkey that don't go together are refused with what to change, without a secret."""

import pytest

from api.settings import Settings, SettingsError, from_environment, usable_settings
from jobs.contract.valkey import parse_server, place_of, shard_of

SECRET = "secret-of-nobody"


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"EVENTS": "redis://host"}, "expected valkey://HOST:PORT/DB"),
        ({"EVENTS": "valkey://"}, "expected valkey://HOST:PORT/DB"),
        ({"EVENTS": "valkey://host:99999/0"}, "expected valkey://HOST:PORT/DB"),
        ({"EVENTS": "valkey://host/one"}, "expected valkey://HOST:PORT/DB"),
        ({"EVENTS": f"valkey://reco:{SECRET}@host"}, "set RECO_EVENTS_PASSWORD or its file"),
        ({"EVENTS_PASSWORD": SECRET}, "RECO_EVENTS_PASSWORD: set RECO_EVENTS too"),
        ({"EVENTS": "valkey://host", "EVENTS_PASSWORD": f"{SECRET}\n"}, "that can be printed"),
        (
            {
                "EVENTS": "valkey://host",
                "EVENTS_PASSWORD": SECRET,
                "EVENTS_PASSWORD_FILE": "/dev/null",
            },
            "a file that is there",
        ),
        ({"EVENTS": "valkey://host", "EVENTS_CA": __file__}, "expected valkeys://"),
        ({"EVENTS": "valkeys://host", "EVENTS_CERTIFICATE": __file__}, "set both or none"),
        ({"EVENTS": "valkeys://host", "EVENTS_CA": "/no/such/file"}, "a file that is there"),
    ],
)
def test_what_does_not_go_together_is_refused(variables, says):
    with pytest.raises(SettingsError) as refused:
        from_environment({f"RECO_{name}": value for name, value in variables.items()})
    assert says in str(refused.value)
    assert SECRET not in str(refused.value)


def test_no_text_of_the_settings_has_the_password():
    settings = from_environment(
        {"RECO_EVENTS": "valkey://reco@[::1]:1,db2/3", "RECO_EVENTS_PASSWORD": SECRET}
    )
    assert SECRET not in repr(settings) + repr(settings.events_access) + str(settings.events)
    assert settings.events_access.password == SECRET
    assert settings.events.hosts == (("::1", 1), ("db2", 6379))
    assert str(settings.events) == "valkey://reco@[::1]:1,db2:6379/3"


def test_without_the_client_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("api.settings.find_spec", lambda name: None)
    settings = Settings(work=tmp_path, events=parse_server("valkey://localhost"))
    with pytest.raises(SettingsError, match="pip install -r requirements-valkey"):
        usable_settings(settings)


def test_users_are_spread_over_the_shards_and_keys_of_a_shard_stay_together():
    counts = [0] * 64
    for user in range(64_000):
        counts[shard_of(user)] += 1
    assert 800 < min(counts) <= max(counts) < 1200
    for user in (47, "47", "a}b{c", "№"):
        shard, keys = place_of(user)
        assert {key[: key.index("}") + 1] for key in keys} == {f"reco:{{{shard}}}"}
