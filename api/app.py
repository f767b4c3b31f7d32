"""The Litestar application: start it with `litestar run` from the repository root."""

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
from litestar.openapi.plugins import JsonRenderPlugin, SwaggerRenderPlugin
from litestar.openapi.spec import Components, Reference, SecurityScheme
from litestar.plugins import CLIPlugin

from api.http import problems, routes
from api.http.asgi import Application
from api.http.guard import Guard, check_host
from api.service import Service
from api.settings import Settings, SettingsError, check_state_folder, from_environment

logger = logging.getLogger("api")


KEYS: dict[str, SecurityScheme | Reference] = {
    "key": SecurityScheme(type="apiKey", name="X-API-Key", security_scheme_in="header"),
    "bearer": SecurityScheme(type="http", scheme="Bearer"),
}


class CheckSettings(CLIPlugin):
    """`litestar run` ends with one line and exit code 1 where a setting can't be used."""

    def on_cli_init(self, cli: Group) -> None:
        """Add no command."""

    @contextmanager
    def server_lifespan(self, app: Litestar) -> Iterator[None]:
        """Check before the server starts."""
        try:
            settings = from_environment(os.environ)
            check_state_folder(settings)
            check_host(settings, get_current_context(silent=True))
        except SettingsError as error:
            sys.exit(str(error))
        signal.signal(signal.SIGTERM, pass_on)
        yield


def pass_on(number: int, frame: object) -> None:
    """A signal to end is for the workers too, which litestar starts by a process of their own."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/children")
    children = path.read_text().split() if path.exists() else []
    for child in children:
        os.kill(int(child), number)
    if not children:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


@asynccontextmanager
async def serve(app: Litestar) -> AsyncIterator[None]:
    """Read the settings, open the journal and the current release; start without them as well."""
    settings: Settings = app.state.get("settings") or from_environment(os.environ)
    assert isinstance(app, Application)
    set_up_logging(settings.log_level)
    warn_of_several_workers(settings.journal)
    app.guard = Guard(settings)
    app.service = app.state.service = app.state.calls.service = Service(settings)
    app.service.metrics.know([route.path for route in app.routes])
    await app.service.start()
    yield
    await app.service.stop()


def set_up_logging(level: str) -> None:
    """One line a request on the console, the service's own, instead of uvicorn's access log."""
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s:     %(message)s"))
        logger.addHandler(handler)
    access = logging.getLogger("uvicorn.access")
    access.handlers.clear()  # without handlers uvicorn doesn't even put the line together
    access.propagate = False


def warn_of_several_workers(journal: str) -> None:
    """Say loudly what several workers do; a child process that isn't --reload's is one of them."""
    if multiprocessing.parent_process() and "--reload" not in sys.argv:
        logger.warning(
            "Several workers: each keeps its own events and counters%s, so answers depend on which "
            "one is asked. Run one worker, or keep each user on one of them.",
            "" if journal == "off" else " and sees the others' events a second later",
        )


def create_app(
    settings: Settings | None = None, kind: type[Application] = Application
) -> Application:
    """Build the application; without settings, the environment's are read when it starts."""

    class Calls(routes.Calls):
        """The calls of this application; the service comes when it starts."""

    return kind(
        [Calls],
        lifespan=[serve],
        state=State({"settings": settings, "calls": Calls}),
        exception_handlers=problems.HANDLERS,
        logging_config=None,
        plugins=[CheckSettings()],
        openapi_config=OpenAPIConfig(
            title="Music recommendations",
            version="1",
            description="Recommends tracks by a user's history and by what they play right now.",
            path="/schema",
            security=[{}, {"key": []}, {"bearer": []}],  # each asked for only where keys are set
            components=Components(security_schemes=KEYS),
            use_handler_docstrings=True,
            render_plugins=[JsonRenderPlugin(), SwaggerRenderPlugin()],
        ),
    )


app = create_app()
