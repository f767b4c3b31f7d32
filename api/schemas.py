"""Bodies of requests and answers. The description of the API at /schema is made from them."""

from typing import Annotated

from litestar.params import QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType

from jobs.contract.names import MAX_ID

MAX_K = 1000  # tracks in a list of /recommendations
MAX_LISTS = 1000  # lists of a batch
MAX_BODY = 65_536  # bytes of a request's body
MAX_EVENTS = 100  # events that a request may bring along


TrackIds = Annotated[list[int], Meta(examples=[[679169, 630670, 646516]])]


class Recommendations(Struct):
    """Tracks to play, best first."""

    recs: TrackIds


class Reason(Struct):
    """Where a track comes from, and because of which events."""

    track_id: Annotated[int, Meta(examples=[630670])]
    name: Annotated[str | None, Meta(examples=["You're Gonna Go Far, Kid"])]
    final_rank: Annotated[
        int | None, Meta(description="its place in the user's final list, from 1", examples=[7])
    ]
    top_rank: Annotated[
        int | None,
        Meta(description="its place in the top list that continues it", examples=[None]),
    ]
    sources: Annotated[
        list[str],
        Meta(
            description="online sources that brought it for the last events", examples=[["similar"]]
        ),
    ]
    events: Annotated[
        list[int],
        Meta(
            description="the last events without which its online score would be lower or it would "
            "not be found online, the most important first",
            examples=[[679169]],
        ),
    ]


class Explained(Struct):
    """Tracks to play, best first; with explain=true, also a reason for each track."""

    recs: TrackIds
    reasons: list[Reason] | UnsetType = UNSET


Given = Annotated[
    list[Annotated[int, Meta(ge=0, le=MAX_ID), QueryParameter(ge=0, le=MAX_ID)]],
    Meta(
        max_length=MAX_EVENTS,
        description="track ids, newest first: answer as if they had just been played",
        examples=[[679169, 630670]],
    ),
]


class EventsGiven(Struct):
    """What the caller says was just played. It is not stored and not counted."""

    events: Given | UnsetType = UNSET


class ListsWanted(Struct):
    """The users whose lists are requested, and the length of each list."""

    user_ids: Annotated[
        # msgspec checks by Meta; Litestar describes by QueryParameter
        list[Annotated[int, Meta(ge=0, le=MAX_ID), QueryParameter(ge=0, le=MAX_ID)]],
        Meta(min_length=1, max_length=MAX_LISTS, examples=[[47, 16]]),
    ]
    k: Annotated[int, Meta(ge=1, le=MAX_K, description="how many tracks for each user")] = 100
    events: Given | UnsetType = UNSET


class ManyRecommendations(Struct):
    """A list of tracks to play, best first, for each user, in the order of user_ids."""

    recs: Annotated[list[list[int]], Meta(examples=[[[679169, 630670], [646516]]])]


class UserEvents(Struct):
    """The tracks of the user's last events, newest first; a track played twice is listed twice."""

    events: TrackIds


class Stored(Struct):
    """The event is stored."""

    result: Annotated[str, Meta(examples=["ok"])] = "ok"


class Receipt(Struct):
    """What was removed. List and history stay in the release's files, but no answer uses them."""

    user_id: int
    forgotten_until: Annotated[str, Meta(examples=["2024-01-01T00:00:00.123456+00:00"])]
    events: Annotated[int, Meta(description="how many stored events were removed", examples=[16])]
    final_list: Annotated[int, Meta(description="tracks in the user's final list", examples=[100])]
    history: Annotated[int, Meta(description="listens of the user in the release", examples=[156])]


class Loaded(Struct):
    """The release that is served now, and the one before it."""

    release: Annotated[str, Meta(examples=["20240101T000000"])]
    previous: str | None
    users: Annotated[int, Meta(description="users with a history or a list", examples=[1373221])]
    tracks: Annotated[int, Meta(description="tracks that it knows", examples=[1000000])]
    seconds: Annotated[float, Meta(description="how long the load took", examples=[0.8])]


class Freshness(Struct):
    """How old the served release is."""

    release: Annotated[str, Meta(examples=["20240101T000000"])]
    data_until: Annotated[
        str | None,
        Meta(
            description="time of the last listen in the release", examples=["2023-12-31T23:59:58"]
        ),
    ]
    created_at: Annotated[str, Meta(examples=["2024-01-01T00:00:00+00:00"])]
    age_hours: Annotated[
        float, Meta(description="hours since the release was made", examples=[7.25])
    ]
    max_age_hours: Annotated[int, Meta(examples=[48])]
    stale: Annotated[
        bool, Meta(description="whether it is older than max_age_hours", examples=[False])
    ]


class Statistics(Struct):
    """Lists of /recommendations since the start, by whether the user has a final list."""

    request_personal_count: Annotated[int, Meta(examples=[1])]
    request_default_count: Annotated[int, Meta(examples=[1])]


class Live(Struct):
    """The process answers."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"


class Ready(Struct):
    """Which release is served, and whether events can be stored."""

    release: str
    users_with_events: Annotated[
        int, Meta(description="users whose events are in memory", examples=[16])
    ]
    evicted_users: Annotated[
        int,
        Meta(description="users whose events left memory to make room for others", examples=[0]),
    ]
    journal: Annotated[
        str,
        Meta(
            description='"ok", "off", or why events can\'t be stored or users can\'t be forgotten',
            examples=["ok"],
        ),
    ]


class Problem(Struct):
    """Why a call was refused."""

    status_code: int
    detail: str
