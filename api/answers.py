"""What the service answers, as it stands in the API's description at /schema."""

from typing import Annotated

from msgspec import Meta, Struct

TrackIds = Annotated[list[int], Meta(examples=[[679169, 630670, 646516]])]


class Recommendations(Struct):
    """Tracks to play, best first."""

    recs: TrackIds


class UserEvents(Struct):
    """The user's last events, newest first; a track listened to twice stands twice."""

    events: TrackIds


class Stored(Struct):
    """The event is stored."""

    result: Annotated[str, Meta(examples=["ok"])] = "ok"


class Loaded(Struct):
    """The release that is served now, and the one before it."""

    release: Annotated[str, Meta(examples=["20240101T000000"])]
    previous: str | None
    users: Annotated[int, Meta(description="users with a history or a list", examples=[1373221])]
    tracks: Annotated[int, Meta(description="tracks that it knows", examples=[1000000])]
    seconds: Annotated[float, Meta(description="how long the load took", examples=[0.8])]


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
        str, Meta(description='"ok", "off", or why no event can be stored', examples=["ok"])
    ]


class Problem(Struct):
    """Why a call was refused."""

    status_code: int
    detail: str
