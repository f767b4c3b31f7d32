"""The calls. Parameters are in the query string; reading calls answer GET and POST alike."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from litestar import Controller, HttpMethod, MediaType, get, post, route
from litestar.exceptions.http_exceptions import RequestEntityTooLarge
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter
from litestar.types import Scope
from msgspec import UNSET

from api.http import problems
from api.http.asgi import BODY_KEY
from api.http.described import (
    BAD_BODY,
    BAD_PARAMETER,
    GUARD_REFUSALS,
    NO_RELEASE,
    NOT_STORED,
    REFUSED_RELEASE,
    UNKNOWN_RELEASE,
    UserId,
)
from api.http.description import Call, CallWithEvents
from api.http.ids import EXPECTED, BadParameter, event_of, id_of, ids_of, ids_of_body
from api.http.problems import AnyRequest, events_of_body
from api.http.shared_events import STALE_KEY
from api.http.short_cuts import RECOMMENDER_KEY
from api.prometheus import CONTENT_TYPE, Metrics
from api.schemas import (
    MAX_BODY,
    MAX_EVENTS,
    MAX_K,
    MAX_NEAR,
    MAX_TEXT_BATCH,
    Explained,
    Freshness,
    ListsWanted,
    Live,
    Loaded,
    ManyRecommendations,
    Ready,
    Receipt,
    Recommendations,
    Statistics,
    Stored,
    UserEvents,
)
from api.service import Service
from jobs.contract.ids import INTEGER

UserOrNobody = Annotated[
    str | None,
    QueryParameter(description="the user; may be left out where events are given"),
]
K = Annotated[int, QueryParameter(ge=1, le=MAX_K, description="how many tracks")]
Explain = Annotated[bool, QueryParameter(description="add a reason for each track")]
Events = Annotated[
    list[str] | None,
    QueryParameter(
        description="track ids, newest first, repeatable: answer as if the user had just played "
        f"them; at most {MAX_EVENTS}"
    ),
]


METRICS = {200: ResponseSpec(str, description="Prometheus' text format", media_type=CONTENT_TYPE)}
LISTS = {200: ResponseSpec(ManyRecommendations, description="The lists")}
# these calls return JSON as bytes; the struct only describes it
TRACKS = {200: ResponseSpec(Recommendations, description="The tracks")}
EXPLAINED = {
    200: ResponseSpec(Explained, description="The tracks; with explain=true, the reasons too")
}


def read(path: str, responses: dict[int, ResponseSpec] | None = None) -> Callable[..., Any]:
    """Declare a reading call: GET and POST, status 200, run on the event loop."""
    return route(
        path,
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
        sync_to_thread=False,
        media_type=MediaType.JSON,
        responses=GUARD_REFUSALS | (responses or {}),
    )


class Calls(Controller):
    """All calls. Each application has a subclass of its own, whose class variable is its service.

    Litestar's dependency injection of the service would take longer than most answers.
    """

    service: ClassVar[Service]

    @route(
        "/recommendations",
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
        sync_to_thread=False,
        media_type=MediaType.JSON,
        operation_class=CallWithEvents,
        responses=EXPLAINED | BAD_PARAMETER | NO_RELEASE | GUARD_REFUSALS,
    )
    def recommendations(
        self,
        scope: Scope,
        user_id: UserOrNobody = None,
        k: K = 100,
        explain: Explain = False,
        events: Events = None,
    ) -> bytes:
        """Recommend k tracks: the user's final list, blended with what their last events bring.

        A user without a final list gets the top list in its place. The answer has no track twice,
        and none that the user has heard. It has exactly k tracks if that many exist. With
        explain=true it also has a list `reasons`, which says for each track where it comes from.
        With `events` the answer is the one that the user would get after playing these tracks;
        without user_id, someone new. Nothing of that is stored or counted. In a POST the events may
        also be in a JSON body, as in {"events": [5, 7]}.
        """
        kinds = self.service.kinds
        user = None if user_id is None else id_of("user_id", user_id, kinds.users)
        played = None if events is None else ids_of("events", events, kinds.tracks, MAX_EVENTS)
        body = scope["state"].get(BODY_KEY)
        if body:
            given = events_of_body(body, kinds.tracks)
            if given is not None and played is not None:
                raise BadParameter("events: expected in the query string or in the body, not both")
            played = played if given is None else given
        if played is None:
            if user is None:
                expected = EXPECTED[kinds.users]
                raise BadParameter(
                    f"user_id: expected {expected}, or events without a user, missing"
                )
            if not explain:
                return b'{"recs":%b}' % self.service.recommend(user, k)
        if explain:
            return b'{"recs":%b,"reasons":%b}' % self.service.explain(user, k, played)
        return b'{"recs":%b}' % self.service.try_events(user, k, played or [])

    @post(
        "/recommendations/batch",
        status_code=200,
        media_type=MediaType.JSON,
        request_max_body_size=MAX_TEXT_BATCH,
        exception_handlers=problems.BODY_ERROR_HANDLERS,
        responses=LISTS | BAD_BODY | NO_RELEASE | GUARD_REFUSALS,
    )
    async def recommendations_batch(
        self, request: AnyRequest, data: JSONBody[ListsWanted]
    ) -> bytes:
        """Recommend k tracks to each of up to 1,000 users, as each would get them alone."""
        recommender = request.state[RECOMMENDER_KEY] = self.service.releases.current()
        users, tracks = recommender.catalog.kinds
        if users == INTEGER and len(await request.body()) > MAX_BODY:
            raise RequestEntityTooLarge
        user_ids = ids_of_body("user_ids", data.user_ids, users, lax=True)
        events = None
        if data.events is not UNSET:
            events = ids_of_body("events", data.events, tracks, lax=True)
        if not await self.service.store.refresh(user_ids):
            request.state[STALE_KEY] = True
        lists = await self.service.recommend_many(user_ids, data.k, recommender, events)
        return b'{"recs":%b}' % lists

    @read("/get_online_u2i", TRACKS | BAD_PARAMETER | NO_RELEASE)
    def get_online_u2i(
        self,
        user_id: UserId,
        k: Annotated[
            int, QueryParameter(ge=1, le=MAX_NEAR, description="how many last events")
        ] = 100,
        n: Annotated[
            int,
            QueryParameter(
                name="N", ge=1, le=MAX_NEAR, description="how many similar tracks for each"
            ),
        ] = 10,
    ) -> bytes:
        """Merge the N tracks most similar to each of the user's last k events, best first.

        The answer has at most k * N tracks, and none that the user has heard. It is empty for a
        user without events.
        """
        user = id_of("user_id", user_id, self.service.kinds.users)
        return b'{"recs":%b}' % self.service.online(user, k, n)

    @post("/put_user_event", status_code=200, responses=BAD_PARAMETER | NOT_STORED | GUARD_REFUSALS)
    async def put_user_event(
        self,
        user_id: UserId,
        item_id: Annotated[str, QueryParameter(description="the track")],
    ) -> Stored:
        """Store that the user listens to a track now. No release has to know the track.

        Once this is answered, the event is in the journal, and every later answer takes it into
        account.
        """
        await self.service.put(*event_of(user_id, item_id, self.service.kinds))
        return Stored()

    @post("/forget_user", status_code=200, responses=BAD_PARAMETER | NOT_STORED | GUARD_REFUSALS)
    async def forget_user(self, user_id: UserId) -> Receipt:
        """Remove what is stored about a user. From now on they are a new user in every release.

        Once this is answered, their events are gone from memory and journal. The next run of the
        jobs leaves out what they did before. What they do from now on counts.
        """
        return await self.service.forget(id_of("user_id", user_id, self.service.kinds.users))

    @read("/get_user_events", BAD_PARAMETER | NOT_STORED)
    def get_user_events(
        self,
        user_id: UserId,
        k: Annotated[int, QueryParameter(ge=1, le=100, description="how many events")] = 10,
    ) -> UserEvents:
        """Return the user's last k events, newest first."""
        user = id_of("user_id", user_id, self.service.kinds.users)
        return UserEvents(self.service.store.last(user, k))

    @route(
        "/load_recommendations",
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
        operation_class=Call,
        responses=BAD_PARAMETER | UNKNOWN_RELEASE | NO_RELEASE | REFUSED_RELEASE | GUARD_REFUSALS,
    )
    async def load_recommendations(
        self,
        release: Annotated[
            str | None,
            QueryParameter(
                description="id of the release to serve; without it, the one `current` points to"
            ),
        ] = None,
    ) -> Loaded:
        """Open and check a release, then serve it. Other calls are answered meanwhile."""
        return await self.service.releases.load(release)

    @read("/get_statistics")
    def get_statistics(self) -> Statistics:
        """Return how many lists of /recommendations were answered since the start, by kind."""
        return Statistics(self.service.counters.personal, self.service.counters.default)

    @read("/health/live")
    def live(self) -> Live:
        """Say that the process answers."""
        return Live()

    @read("/health/ready", NO_RELEASE)
    def ready(self) -> Ready:
        """Say which release is served and whether the journal works; 503 while no release is."""
        store, catalog = self.service.store, self.service.releases.current().catalog
        shared = self.service.shared
        return Ready(
            catalog.id,
            store.users,
            store.evictions,
            self.service.journal_status,
            shared.events_state if shared else UNSET,
        )

    @read("/freshness", NO_RELEASE)
    def freshness(self) -> Freshness:
        """Say how old the release and its data are, and whether the release is too old."""
        return self.service.freshness()

    @get(
        "/metrics",
        sync_to_thread=False,
        media_type=CONTENT_TYPE,
        responses=METRICS | GUARD_REFUSALS,
    )
    def metrics(self, request: AnyRequest) -> bytes:
        """Return the metrics of this process in Prometheus' text format."""
        metrics: Metrics = request.app.state.metrics
        return metrics.text()
