"""The service's settings: environment variables RECO_<NAME>, checked once at start."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from jobs.contract.blending import RECENT_EVENTS, Rule, Source, parse_sources
from jobs.contract.journal import JOURNAL_KEEPS
from jobs.contract.names import STATE
from jobs.contract.valkey import Access, Server, parse_server, password_in

PREFIX = "RECO_"
# off: no journal; normal: commits do not wait for the disk; full: each commit waits for it
JOURNALS = ("off", "normal", "full")
KEYS = ("admin_key", "read_key", "write_key", "console_key")
SECRETS = (*KEYS, "events_password", "events")  # never printed or logged; an address may have one
CHECKS = ("hashes", "sizes")  # what of a release's files is compared with its manifest
SWITCH = ("on", "off")
HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\]")
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


class SettingsError(Exception):
    """A setting that can't be used; the text says which, what was found and what is allowed."""


@dataclass(frozen=True)
class Settings:
    """One field for each setting. None in a setting of the blending: the release's value."""

    work: Path = Path("data")  # the folder with releases/ and current
    journal: str = "normal"
    state: Path | None = None  # the folder of the journal; None: WORK/state
    events_per_user: int = 100  # how many last events count, and are in memory
    max_users: int = 1_000_000  # users whose events are in memory
    check: str = "hashes"
    follow_seconds: int = 0  # between two looks at `current`; 0: it is not followed
    max_age_hours: int = 48  # an older release counts as stale
    recent_events: int = RECENT_EVENTS  # kept out of answers, if heard tracks may be recommended
    blending: str | None = None
    online_source: tuple[Source, ...] | None = None
    online_events: int | None = None
    online_neighbours: int | None = None
    admin_key: str | None = field(default=None, repr=False)  # opens every call
    read_key: str | None = field(default=None, repr=False)
    write_key: str | None = field(default=None, repr=False)  # /put_user_event
    console_key: str | None = field(default=None, repr=False)  # reading, and listeners' histories
    console: str = "on"  # the page and its calls
    hosts: tuple[str, ...] | None = None  # names of the service, beside those of this machine
    events: Server | None = None  # the Valkey that has the events; None: they are in `state`
    events_password: str | None = field(default=None, repr=False)
    events_password_file: Path | None = None
    events_ca: Path | None = None  # certificates that prove who the server is; None: the system's
    events_certificate: Path | None = None  # of the client
    events_certificate_key: Path | None = None
    events_unverified: str = "off"  # whether Valkey may forbid to look at its settings
    events_replicas: int | None = None  # how many must have an event; None: Valkey has no replica
    rate_limit: int | None = None  # requests per second of a key or address; 0: no limit
    log_level: str = "INFO"

    @property
    def state_folder(self) -> Path:
        """The folder of the journal and of the tombstones."""
        return self.state or self.work / STATE

    @property
    def events_access(self) -> Access:
        """With what Valkey lets the service in. ValueError if the file can't be read."""
        file = self.events_password_file
        password = password_in(file) if file else self.events_password
        return Access(
            password, self.events_ca, self.events_certificate, self.events_certificate_key
        )

    def blending_overrides(self) -> dict[str, Any]:
        """Return the fields of the release's blending that settings replace, with their values."""
        overrides = {
            "rule": self.blending,
            "sources": self.online_source,
            "events": self.online_events,
            "neighbours": self.online_neighbours,
        }
        return {name: value for name, value in overrides.items() if value is not None}


def _folder(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError("a folder")
    return Path(text)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        digits = text.isascii() and text.isdigit() and len(text) < 20
        if not (digits and low <= int(text) <= high):
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return parse


def _key(text: str) -> str:
    if not (16 <= len(text) <= 256 and text.isascii() and text.isprintable() and " " not in text):
        raise ValueError("16 to 256 printable ASCII characters without spaces")
    return text


def _password(text: str) -> str:
    if not (1 <= len(text) <= 512 and text.isprintable()):
        raise ValueError("a text that can be printed, of at most 512 characters")
    return text


def _file(text: str) -> Path:
    if not text or "\0" in text or not Path(text).is_file():
        raise ValueError("a file that is there")
    return Path(text)


def _one_of(*names: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in names:
            raise ValueError(f"one of {', '.join(names)}")
        return text

    return parse


def _hosts(text: str) -> tuple[str, ...]:
    names = tuple(name.strip().lower() for name in text.split(","))
    if not all(HOST.fullmatch(name) for name in names):
        raise ValueError(
            "host names without ports, separated by commas, as in music.example.org,[2001:db8::1]"
        )
    return names


PARSERS: dict[str, Callable[[str], Any]] = {
    "work": _folder,
    "journal": _one_of(*JOURNALS),
    "state": _folder,
    "events_per_user": _whole(1, JOURNAL_KEEPS),
    "max_users": _whole(1, 1_000_000_000),
    "check": _one_of(*CHECKS),
    "follow_seconds": _whole(0, 86_400),
    "max_age_hours": _whole(1, 1_000_000),
    "recent_events": _whole(0, 1000),
    "blending": _one_of(*get_args(Rule)),
    "online_source": parse_sources,
    "online_events": _whole(1, 100),
    "online_neighbours": _whole(1, 100),
    **dict.fromkeys(KEYS, _key),
    "events": parse_server,
    "events_password": _password,
    "events_password_file": _file,
    "events_ca": _file,
    "events_certificate": _file,
    "events_certificate_key": _file,
    "events_unverified": _one_of(*SWITCH),
    "events_replicas": _whole(0, 9),
    "console": _one_of(*SWITCH),
    "hosts": _hosts,
    "rate_limit": _whole(0, 1_000_000),
    "log_level": _one_of(*LOG_LEVELS),
}


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read and check every RECO_ variable; raise SettingsError for the first that can't be used."""
    names = {PREFIX + field.name.upper(): field.name for field in fields(Settings)}
    values = {}
    for variable in sorted(v for v in environment if v.startswith(PREFIX)):
        text = environment[variable]
        if variable not in names:
            raise SettingsError(f"{variable} is not a setting: expected one of {', '.join(names)}")
        try:
            values[names[variable]] = PARSERS[names[variable]](text)
        except ValueError as error:
            shown = (
                f"a text of {len(text)} characters" if names[variable] in SECRETS else repr(text)
            )
            raise SettingsError(f"{variable}={shown}: expected {error}") from None
    settings = Settings(**values)
    others = settings.read_key, settings.write_key, settings.console_key
    if any(others) and not settings.admin_key:
        raise SettingsError(f"{PREFIX}ADMIN_KEY is missing: set it too, since another key is set")
    check_events(settings, values)
    return settings


def check_events(settings: Settings, given: Mapping[str, Any]) -> None:
    """Raise SettingsError if the settings of Valkey don't go together."""
    of_events = [name for name in given if name.startswith("events_") and name != "events_per_user"]
    if settings.events is None:
        if of_events:
            names = ", ".join(PREFIX + name.upper() for name in of_events)
            raise SettingsError(f"{names}: set {PREFIX}EVENTS too, or leave out what needs it")
        return
    if settings.events_password and settings.events_password_file:
        raise SettingsError(f"{PREFIX}EVENTS_PASSWORD and {PREFIX}EVENTS_PASSWORD_FILE: set one")
    if bool(settings.events_certificate) != bool(settings.events_certificate_key):
        raise SettingsError(
            f"{PREFIX}EVENTS_CERTIFICATE and {PREFIX}EVENTS_CERTIFICATE_KEY: set both or none"
        )
    if (settings.events_ca or settings.events_certificate) and not settings.events.tls:
        raise SettingsError(
            f"{PREFIX}EVENTS={settings.events}: expected valkeys://, since certificates are set"
        )


def usable_settings(given: Settings | None = None) -> Settings:
    """Return the given settings, or read the environment; SettingsError if they can't be used."""
    settings = given or from_environment(os.environ)
    check_work_folder(settings)
    check_state_folder(settings)
    if settings.events and find_spec("hiredis") is None:
        raise SettingsError(
            f"{PREFIX}EVENTS needs the package hiredis: pip install -r requirements-valkey.txt"
        )
    return settings


def check_work_folder(settings: Settings) -> None:
    """Raise SettingsError if the folder of releases is missing: its name may be mistyped."""
    if not settings.work.is_dir():
        raise SettingsError(
            f"{PREFIX}WORK={str(settings.work)!r}: expected the folder in which the jobs "
            "make releases, found no folder; run the jobs first, or correct the path"
        )


def check_state_folder(settings: Settings) -> None:
    """Make the journal's folder; raise SettingsError if it can't be made or written."""
    folder = settings.state_folder
    if settings.journal == "off" or settings.events:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
        reason = "" if writable else "it can't be written"
    except OSError as error:
        reason = str(error)
    if reason:
        raise SettingsError(
            f"{PREFIX}STATE={str(folder)!r}: expected a folder for the journal of events ({reason})"
        )
