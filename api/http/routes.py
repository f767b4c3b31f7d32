"""The calls of the service. Parameters come in the query string; GET and POST are the same."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from litestar import Controller, HttpMethod, MediaType, get, post, route
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example
from litestar.params import JSONBody, QueryParameter

from api.http import problems
from api.http.asgi import RECOMMENDER_KEY
from api.http.problems import AnyRequest
from api.prometheus import CONTENT_TYPE, Metrics
from api.schemas import (
    MAX_BODY,
    MAX_K,
    Explained,
    Freshness,
    ListsWanted,
    Live,
    Loaded,
    ManyRecommendations,
    Problem,
    Ready,
    Receipt,
    Recommendations,
    Statistics,
    Stored,
    UserEvents,
)
from api.service import Service
from jobs.contract.names import MAX_ID

UserId = Annotated[int, QueryParameter(ge=0, le=MAX_ID, description="whom the call is about")]


def problem(status: int, description: str, detail: str) -> dict[int, ResponseSpec]:
    """Describe an answer other than 200, with an example."""
    example = Example(value={"status_code": status, "detail": detail})
    return {status: ResponseSpec(Problem, False, description, examples=[example])}


BAD_PARAMETER = problem(
    400,
    "A parameter is missing or out of range",
    "k: expected a whole number from 1 to 100, found '0'",
)


BAD_BODY = problem(
    400,
    "The body is not what is expected",
    'body: user_ids[1]: Expected `int` >= 0; expected {"user_ids": [47, 16], "k": 100}',
)


TOO_LARGE = problem(413, "The body is too large", "body: expected at most 65536 bytes")
NO_RELEASE = problem(
    503,
    "There is no usable release, and why",
    "data/current is missing: run python -m jobs.publish --work data",
)


NOT_STORED = problem(
    503,
    "The journal of events can't be written or read, and why",
    "the journal data/state/events.db can't be written: database or disk is full",
)


UNKNOWN = problem(
    404,
    "There is no such release",
    "release: expected one of ['20240101T000000'], found 'x'",
)


REFUSED = problem(
    409,
    "The release is refused, and why; the old one stays",
    "2023-01-01: bytes of recommendations.parquet: expected 812, found 404",
)


# what may be answered before a call is looked at
NOT_LET_IN = (
    problem(401, "The call needs a key", "expected a valid key in X-API-Key")
    | problem(
        403,
        "The key is for other calls; without keys, from elsewhere",
        "the key is for other calls",
    )
    | problem(429, "Too many requests", "expected at most 100 requests a second")
    | TOO_LARGE
)


METRICS = {200: ResponseSpec(str, description="Prometheus' text format", media_type=CONTENT_TYPE)}
LISTS = {200: ResponseSpec(ManyRecommendations, description="The lists")}
TRACKS = {200: ResponseSpec(Recommendations, description="The tracks")}  # ready-made JSON
EXPLAINED = {200: ResponseSpec(Explained, description="The tracks; with explain=true, why")}


def read(path: str, responses: dict[int, ResponseSpec] | None = None) -> Callable[..., Any]:
    """Declare a reading call: GET and POST, always 200, answered on the event loop."""
    return route(
        path,
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
        sync_to_thread=False,
        media_type=MediaType.JSON,
        responses=NOT_LET_IN | (responses or {}),
    )


class Calls(Controller):
    """All the calls; each application has a subclass of its own, with its service.

    A service handed over as a dependency would take longer than most answers.
    """

    service: ClassVar[Service]

    @read("/recommendations", EXPLAINED | BAD_PARAMETER | NO_RELEASE)
    def recommendations(
        self,
        user_id: UserId,
        k: Annotated[int, QueryParameter(ge=1, le=MAX_K, description="how many tracks")] = 100,
        explain: Annotated[bool, QueryParameter(description="say why of each track")] = False,
    ) -> bytes:
        """Recommend k tracks: the user's list blended with what is near their last events.

        A user without a list gets the top list in its place. No track stands twice, none that the
        user has heard; there are exactly k wherever that many exist. With explain=true a list
        `reasons` beside it says of each track where it comes from.
        """
        if explain:
            return b'{"recs":%b,"reasons":%b}' % self.service.explain(user_id, k)
        return b'{"recs":%b}' % self.service.recommend(user_id, k)

    @post(
        "/recommendations/batch",
        status_code=200,
        media_type=MediaType.JSON,
        request_max_body_size=MAX_BODY,
        exception_handlers=problems.BODY_ERROR_HANDLERS,
        responses=LISTS | BAD_BODY | NO_RELEASE | NOT_LET_IN,
    )
    async def recommendations_batch(
        self, request: AnyRequest, data: JSONBody[ListsWanted]
    ) -> bytes:
        """Recommend k tracks to each of up to 1,000 users: what they would be given one by one."""
        served = request.state[RECOMMENDER_KEY] = self.service.releases.current()
        return b'{"recs":%b}' % await self.service.recommend_many(data.user_ids, data.k, served)

    @read("/get_online_u2i", TRACKS | BAD_PARAMETER | NO_RELEASE)
    def get_online_u2i(
        self,
        user_id: UserId,
        k: Annotated[int, QueryParameter(ge=1, le=100, description="how many last events")] = 100,
        n: Annotated[
            int, QueryParameter(name="N", ge=1, le=100, description="how many neighbours of each")
        ] = 10,
    ) -> bytes:
        """Merge the tracks similar to the user's last k events, N of each, best first.

        At most k * N tracks, none that the user has heard; none at all without events.
        """
        return b'{"recs":%b}' % self.service.online(user_id, k, n)

    @post("/put_user_event", status_code=200, responses=BAD_PARAMETER | NOT_STORED | NOT_LET_IN)
    async def put_user_event(
        self,
        user_id: UserId,
        item_id: Annotated[int, QueryParameter(ge=0, le=MAX_ID, description="what they listen to")],
    ) -> Stored:
        """Store that the user listens to a track now; a track that no release knows as well.

        Once this is answered, the event is in the journal, and the next answers obey it.
        """
        await self.service.put(user_id, item_id)
        return Stored()

    @post("/forget_user", status_code=200, responses=BAD_PARAMETER | NOT_STORED | NOT_LET_IN)
    async def forget_user(self, user_id: UserId) -> Receipt:
        """Remove what is stored of a user; from now on they are new, whatever release is served.

        Once this is answered, their events are gone from memory and journal. The next run of the
        jobs leaves out what came before. What they do from now on counts.
        """
        return await self.service.forget(user_id)

    @read("/get_user_events", BAD_PARAMETER | NOT_STORED)
    def get_user_events(
        self,
        user_id: UserId,
        k: Annotated[int, QueryParameter(ge=1, le=100, description="how many events")] = 10,
    ) -> UserEvents:
        """Give the user's last k events, newest first."""
        return UserEvents(self.service.store.last(user_id, k))

    @route(
        "/load_recommendations",
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
        responses=BAD_PARAMETER | UNKNOWN | NO_RELEASE | REFUSED | NOT_LET_IN,
    )
    async def load_recommendations(
        self,
        release: Annotated[
            str | None,
            QueryParameter(
                description="a release's id, served until the next load; else `current`"
            ),
        ] = None,
    ) -> Loaded:
        """Open and check a release, then serve it; other calls are answered meanwhile."""
        return await self.service.releases.load(release)

    @read("/get_statistics")
    def get_statistics(self) -> Statistics:
        """Count the answers of /recommendations since the start."""
        return Statistics(self.service.counters.personal, self.service.counters.default)

    @read("/health/live")
    def live(self) -> Live:
        """Say that the process answers."""
        return Live()

    @read("/health/ready", NO_RELEASE)
    def ready(self) -> Ready:
        """Say what is served; 503 while there is no release."""
        store, catalog = self.service.store, self.service.releases.current().catalog
        return Ready(catalog.id, store.users, store.evictions, self.service.journal_status)

    @read("/freshness", NO_RELEASE)
    def freshness(self) -> Freshness:
        """Say until when the data went, how old the release is, and whether that is too old."""
        return self.service.freshness()

    @get(
        "/metrics",
        sync_to_thread=False,
        media_type=CONTENT_TYPE,
        responses=METRICS | NOT_LET_IN,
    )
    def metrics(self, request: AnyRequest) -> bytes:
        """Tell Prometheus how the service does."""
        metrics: Metrics = request.app.state.metrics
        return metrics.text()
