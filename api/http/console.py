"""The page at / and the calls behind it: search, tracks, listeners, releases, reports."""

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from litestar import Controller, HttpMethod, MediaType, Response, get, route
from litestar.exceptions import HTTPException, NotFoundException
from litestar.params import FromPath, PathParameter, QueryParameter
from msgspec import UNSET

from api.http.asgi import Application
from api.http.described import (
    BAD_PARAMETER,
    GUARD_REFUSALS,
    NO_RELEASE,
    NOT_KEPT,
    UNKNOWN_RELEASE,
    UserId,
)
from api.http.description import Call
from api.http.files import answer_file
from api.http.guard import Guard
from api.http.ids import id_of, ids_of
from api.http.problems import AnyRequest
from api.http.short_cuts import RECOMMENDER_KEY
from api.insight import Insight
from api.release.catalog import Catalog
from api.schemas import (
    MAX_EVENTS,
    MAX_FOUND,
    Access,
    Found,
    Releases,
    Tracks,
    UserDetails,
)
from jobs.contract.names import MAX_ID
from jobs.contract.search import MAX_QUERY
from jobs.contract.text_ids import Kinds

ASSETS = Path(__file__).parents[1] / "console"
PAGE_HEADERS = NOT_KEPT | {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; frame-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}
Limit = Annotated[int, QueryParameter(ge=1, le=MAX_FOUND, description="how many of each kind")]
Near = Annotated[
    int, QueryParameter(ge=0, le=100, description="how many similar and next tracks of each")
]
read = partial(
    route,
    http_method=[HttpMethod.GET, HttpMethod.POST],
    status_code=200,
    operation_class=Call,
    response_headers=NOT_KEPT,
)


class ConsoleCalls(Controller):
    """The calls of the console. Each application has a subclass with its own insight."""

    insight: ClassVar[Insight]

    def _catalog(self, request: AnyRequest) -> Catalog:
        """Return the served catalog, and let X-Release name it even if another one is loaded."""
        recommender = request.app.state.service.releases.current()
        request.state[RECOMMENDER_KEY] = recommender
        catalog: Catalog = recommender.catalog
        return catalog

    @get("/", include_in_schema=False, sync_to_thread=True)
    def page(self) -> Response[bytes]:
        """Return the page."""
        return answer_file(ASSETS / "index.html", PAGE_HEADERS)

    @get("/console/{name:str}", include_in_schema=False, sync_to_thread=True)
    def asset(self, name: FromPath[str]) -> Response[bytes]:
        """Return a file that the page needs."""
        if name not in {path.name for path in ASSETS.iterdir()} or name.endswith(".html"):
            raise NotFoundException
        return answer_file(ASSETS / name, PAGE_HEADERS)

    @read("/search", responses=BAD_PARAMETER | NO_RELEASE | GUARD_REFUSALS)
    async def search(
        self,
        request: AnyRequest,
        q: Annotated[
            str,
            QueryParameter(max_length=MAX_QUERY, description="beginnings of words, or an id"),
        ] = "",
        kind: Annotated[
            Literal["any", "track", "artist", "user"], QueryParameter(description="only this kind")
        ] = "any",
        limit: Limit = 10,
    ) -> Found:
        """Find tracks and artists by the beginnings of words, in any order and script.

        Listeners are found by id, where the key opens them. Without q the answer has what is most
        played, and listeners drawn at random.
        """
        refusal = _guard(request).refusal_of_people(request.scope)
        if kind == "user" and refusal:
            raise HTTPException(refusal.detail, status_code=refusal.status)
        return await self.insight.search(self._catalog(request), q, kind, limit, not refusal)

    @read("/tracks", responses=BAD_PARAMETER | NO_RELEASE | GUARD_REFUSALS)
    async def tracks(
        self,
        request: AnyRequest,
        ids: Annotated[
            list[str],
            QueryParameter(description=f"track ids, repeatable; at most {MAX_EVENTS}"),
        ],
        near: Near = 0,
    ) -> Tracks:
        """Return names, artists, genres and counts of tracks, and what is near them."""
        catalog = self._catalog(request)
        wanted = ids_of("ids", ids, catalog.kinds.tracks, MAX_EVENTS)
        return await self.insight.tracks(catalog, wanted, near)

    @read("/user", responses=BAD_PARAMETER | NO_RELEASE | GUARD_REFUSALS)
    async def user(
        self,
        request: AnyRequest,
        user_id: UserId,
        offset: Annotated[
            int, QueryParameter(ge=0, le=MAX_ID, description="how many listens to skip")
        ] = 0,
        limit: Annotated[
            int, QueryParameter(ge=1, le=500, description="how many listens of the history")
        ] = 50,
        lists: Annotated[
            bool, QueryParameter(description="whether to add the final and the generators' lists")
        ] = True,
    ) -> UserDetails:
        """Return a listener's history with dates, live events, and lists.

        Needs the admin key or the key of the console, if any key is set.
        """
        catalog = self._catalog(request)
        user = id_of("user_id", user_id, catalog.kinds.users)
        return await self.insight.user(catalog, user, offset, limit, lists)

    @read("/releases", responses=GUARD_REFUSALS)
    async def releases(self, request: AnyRequest) -> Releases:
        """Return all releases, newest first, with their metrics and reports."""
        return await self.insight.releases(_guard(request).report_path)

    @get(
        "/reports/{name:str}",
        operation_class=Call,
        media_type=MediaType.HTML,
        responses=BAD_PARAMETER | UNKNOWN_RELEASE | NO_RELEASE | GUARD_REFUSALS,
    )
    async def report(
        self,
        name: Annotated[str, PathParameter(description="evaluation, replay, data or release")],
        release: Annotated[
            str | None, QueryParameter(description="id of a release; without it, the served one")
        ] = None,
    ) -> Response[bytes]:
        """Return a report of the run that made a release, as a page without scripts."""
        page = await self.insight.report(name, release)
        headers = NOT_KEPT | {"Content-Security-Policy": page.policy}
        return Response(page.html, media_type=MediaType.HTML, headers=headers)

    @read("/access", responses=GUARD_REFUSALS, sync_to_thread=False)
    def access(self, request: AnyRequest) -> Access:
        """Say what the given key opens."""
        found, kinds = _guard(request).access(request.scope), request.app.state.service.kinds
        found.ids = UNSET if kinds == Kinds() else kinds._asdict()
        return found


def _guard(request: AnyRequest) -> Guard:
    assert isinstance(request.app, Application)
    return request.app.guard
