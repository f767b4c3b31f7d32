"""What the service takes and answers, as it stands in the API's description at /schema."""

from typing import Annotated

from litestar.params import QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType

from jobs.contract.names import MAX_ID

MAX_K = 1000  # tracks of a list of /recommendations
MAX_LISTS = 1000  # of a batch
MAX_BODY = 65_536  # bytes of a batch


TrackIds = Annotated[list[int], Meta(examples=[[679169, 630670, 646516]])]


class Recommendations(Struct):
    """Tracks to play, best first."""

    recs: TrackIds


class Reason(Struct):
    """Where a track comes from, and why."""

    track_id: Annotated[int, Meta(examples=[630670])]
    name: Annotated[str | None, Meta(examples=["You're Gonna Go Far, Kid"])]
    final_rank: Annotated[
        int | None, Meta(description="its place in the user's final list", examples=[7])
    ]
    top_rank: Annotated[
        int | None,
        Meta(description="its place in the top list, which continues that", examples=[None]),
    ]
    sources: Annotated[
        list[str], Meta(description="what brought it for the last events", examples=[["similar"]])
    ]
    events: Annotated[
        list[int],
        Meta(
            description="those of the last events without which its online score would be lower, "
            "or which alone brought it; the one that counts most first",
            examples=[[679169]],
        ),
    ]


class Explained(Struct):
    """Tracks to play, best first; where that is asked for, beside them a reason for each."""

    recs: TrackIds
    reasons: list[Reason] | UnsetType = UNSET


class ListsWanted(Struct):
    """Whose lists are asked for, all of one length."""

    user_ids: Annotated[
        list[
            Annotated[int, Meta(ge=0, le=MAX_ID), QueryParameter(ge=0, le=MAX_ID)]
        ],  # checked, described
        Meta(min_length=1, max_length=MAX_LISTS, examples=[[47, 16]]),
    ]
    k: Annotated[int, Meta(ge=1, le=MAX_K, description="how many tracks each")] = 100


class ManyRecommendations(Struct):
    """Tracks to play, best first: a list for each user, in the order of user_ids."""

    recs: Annotated[list[list[int]], Meta(examples=[[[679169, 630670], [646516]]])]


class UserEvents(Struct):
    """The user's last events, newest first; a track listened to twice stands twice."""

    events: TrackIds


class Stored(Struct):
    """The event is stored."""

    result: Annotated[str, Meta(examples=["ok"])] = "ok"


class Receipt(Struct):
    """What is gone, and up to when; of the release that is served it stays on the disk only."""

    user_id: int
    forgotten_until: Annotated[str, Meta(examples=["2024-01-01T00:00:00.123456+00:00"])]
    events: Annotated[int, Meta(description="that were stored", examples=[16])]
    final_list: Annotated[int, Meta(description="tracks of the user's final list", examples=[100])]
    history: Annotated[int, Meta(description="listens that the release has", examples=[156])]


class Loaded(Struct):
    """The release that is served now, and the one before it."""

    release: Annotated[str, Meta(examples=["20240101T000000"])]
    previous: str | None
    users: Annotated[int, Meta(description="users with a history or a list", examples=[1373221])]
    tracks: Annotated[int, Meta(description="tracks that it knows", examples=[1000000])]
    seconds: Annotated[float, Meta(description="how long the load took", examples=[0.8])]


class Freshness(Struct):
    """How old what is served is."""

    release: Annotated[str, Meta(examples=["20240101T000000"])]
    data_until: Annotated[
        str | None, Meta(description="time of the last listen", examples=["2023-12-31T23:59:58"])
    ]
    created_at: Annotated[str, Meta(examples=["2024-01-01T00:00:00+00:00"])]
    age_hours: Annotated[float, Meta(description="since it was made", examples=[7.25])]
    max_age_hours: Annotated[int, Meta(examples=[48])]
    stale: Annotated[bool, Meta(description="older than that", examples=[False])]


class Statistics(Struct):
    """Answers of /recommendations since the start, by the kind of their offline list."""

    request_personal_count: Annotated[int, Meta(examples=[1])]
    request_default_count: Annotated[int, Meta(examples=[1])]


class Live(Struct):
    """The process answers."""

    status: Annotated[str, Meta(examples=["ok"])] = "ok"


class Ready(Struct):
    """What is served, and what becomes of events."""

    release: str
    users_with_events: Annotated[int, Meta(description="in memory", examples=[16])]
    evicted_users: Annotated[
        int,
        Meta(description="users whose events left memory to make room for others", examples=[0]),
    ]
    journal: Annotated[
        str,
        Meta(
            description='"ok", "off", or why no event can be stored or no user forgotten',
            examples=["ok"],
        ),
    ]


class Problem(Struct):
    """Why a call was refused."""

    status_code: int
    detail: str
