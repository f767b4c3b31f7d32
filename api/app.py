"""The Litestar application: start it with `litestar run` from the repository root."""

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from click import Group, get_current_context
from litestar import Litestar
from litestar.datastructures import State
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, Reference, SecurityScheme
from litestar.plugins import CLIPlugin

from api.http import console, problems, routes
from api.http.asgi import Application, check_server
from api.http.description import Description
from api.http.guard import Guard, check_host
from api.http.viewer import Viewer
from api.insight import Insight
from api.prometheus import Metrics
from api.service import Service
from api.settings import Settings, SettingsError, usable_settings

logger = logging.getLogger("api")


KEYS: dict[str, SecurityScheme | Reference] = {
    "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
    "bearer": SecurityScheme(type="http", scheme="Bearer"),
}


class CheckSettings(CLIPlugin):
    """Ends `litestar run` with one line and exit code 1 if a setting cannot be used.

    Under other servers, such as uvicorn, the application itself refuses it (`api.http.asgi`).
    """

    def on_cli_init(self, cli: Group) -> None:
        """Add no command."""

    @contextmanager
    def server_lifespan(self, app: Litestar) -> Iterator[None]:
        """Check the settings before the server starts."""
        assert isinstance(app, Application)
        try:
            settings = usable_settings(app.given_settings)
            if settings.events:
                asyncio.run(check_server(settings))
            check_host(settings, get_current_context(silent=True))
        except SettingsError as error:
            sys.exit(str(error))
        signal.signal(signal.SIGTERM, pass_on_signal)
        yield


def pass_on_signal(number: int, frame: object) -> None:
    """Pass a signal on to the child processes; if there are none, end as without a handler.

    With several workers, litestar starts the server in a child process and waits for it. Without
    this handler, SIGTERM would end litestar alone, and the workers would go on.
    """
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    children = path.read_text().split() if path.exists() else []
    for child in children:
        os.kill(int(child), number)
    if not children:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@asynccontextmanager
async def serve(app: Litestar) -> AsyncIterator[None]:
    """Start the service, which opens the journal and the current release; stop it at the end.

    It also starts if the journal or the release cannot be used; calls that need them answer 503.
    """
    assert isinstance(app, Application)
    settings = usable_settings(app.given_settings)
    set_up_logging(settings.log_level)
    warn_of_several_workers(settings)
    service = Service(settings)
    app.guard = Guard(settings)
    app.metrics = Metrics([route.path for route in app.routes], service.state)
    app.service = app.state.service = app.state.calls.service = service
    app.state.metrics = app.metrics
    app.insight = app.state.console_calls.insight = Insight(service)
    await service.start()
    yield
    app.insight.stop()
    await service.stop()


def set_up_logging(level: str) -> None:
    """Write log lines to the console, and turn off uvicorn's access log.

    The service itself writes one line for each list of /recommendations.
    """
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s:     %(message)s"))
        logger.addHandler(handler)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()  # without handlers uvicorn does not even compose the line
    access.propagate = False


def warn_of_several_workers(settings: Settings) -> None:
    """Warn if this process is one of several workers: a child process, not started by --reload."""
    if settings.events is None and multiprocessing.parent_process() and "--reload" not in sys.argv:
        logger.warning(
            "Several workers: each keeps its own events and counters%s, so answers depend on which "
            "one is asked. Run one worker, or keep each user on one of them.",
            "" if settings.journal == "off" else " and sees the others' events a second later",
        )


def create_app(
    settings: Settings | None = None, kind: type[Application] = Application
) -> Application:
    """Build the application. Without settings, it reads the environment when it starts."""

    class Calls(routes.Calls):
        """The calls of this application; `serve` sets the class variable `service`."""

    class ConsoleCalls(console.ConsoleCalls):
        """The console's calls of this application; `serve` sets the class variable `insight`."""

    app = kind(
        [Calls, ConsoleCalls, Viewer],
        lifespan=[serve],
        state=State({"calls": Calls, "console_calls": ConsoleCalls}),
        exception_handlers=problems.HANDLERS,
        logging_config=None,
        plugins=[CheckSettings()],
        openapi_config=OpenAPIConfig(
            title="Music recommendations",
            version="1",
            description="Recommends tracks by a user's history and by what they play right now.",
            path="/schema",
            security=[{}, {"key": []}, {"bearer": []}],  # {}: without a key, as long as none is set
            components=Components(security_schemes=KEYS),
            use_handler_docstrings=True,
            render_plugins=[Description()],
        ),
    )
    app.given_settings = settings
    return app


app = create_app()
