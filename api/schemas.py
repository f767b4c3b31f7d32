"""Bodies of requests and answers. The description of the API at /schema is made from them."""

from typing import Annotated, Generic, TypeVar

from litestar.params import QueryParameter
from msgspec import UNSET, Meta, Struct, UnsetType

from jobs.contract.ids import LONGEST
from jobs.contract.names import MAX_ID

T = TypeVar("T")
MAX_K = 1000  # tracks in a list of /recommendations
MAX_LISTS = 1000  # lists of a batch
MAX_BODY = 65_536  # bytes of a request's body
MAX_TEXT_BATCH = 1 << 20  # of a batch whose users have text ids
MAX_EVENTS = 100  # events that a request may bring along
MAX_FOUND = 50  # of each kind in an answer of /search
MAX_NEAR = 100  # events of /get_online_u2i, and similar tracks of each


# A user or a track. Which of the two it is, the served release says: see api.http.ids.
Id = int | str
# as it is sent in a body; msgspec checks by Meta, and Litestar describes by QueryParameter
IntegerId = Annotated[int, Meta(ge=0, le=MAX_ID), QueryParameter(ge=0, le=MAX_ID)]
GivenId = IntegerId | Annotated[str, QueryParameter(min_length=1, max_length=LONGEST)]
TrackIds = Annotated[list[Id], Meta(examples=[[679169, 630670, 646516]])]


class Recommendations(Struct):
    """Tracks to play, best first."""

    recs: TrackIds


class NamedTrack(Struct):
    """A track with its name and those of its artists; null where they are not known."""

    track_id: Annotated[Id, Meta(examples=[630670])]
    name: Annotated[str | None, Meta(examples=["You're Gonna Go Far, Kid"])]
    artists: Annotated[
        list[str] | None,
        Meta(
            description="null if the release does not have the names of artists",
            examples=[["The Offspring"]],
        ),
    ]


class Reason(NamedTrack):
    """Where a track comes from, and because of which events."""

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
        list[Id],
        Meta(
            description="at most three of the last events, those that bring most to it, the most "
            "important first; none that brings less than a tenth of what brings most",
            examples=[[679169]],
        ),
    ]


class Explained(Struct):
    """Tracks to play, best first; with explain=true, also a reason for each track."""

    recs: TrackIds
    reasons: list[Reason] | UnsetType = UNSET


Given = Annotated[
    list[GivenId],
    Meta(
        max_length=MAX_EVENTS,
        description="track ids, newest first: answer as if they had just been played",
        examples=[[679169, 630670]],
    ),
]


class EventsGiven(Struct, Generic[T]):
    """What the caller says was just played. It is not stored and not counted."""

    events: Annotated[list[T], Meta(max_length=MAX_EVENTS)] | UnsetType = UNSET


class ListsWanted(Struct):
    """The users whose lists are requested, and the length of each list."""

    user_ids: Annotated[
        list[GivenId],
        Meta(min_length=1, max_length=MAX_LISTS, examples=[[47, 16]]),
    ]
    k: Annotated[int, Meta(ge=1, le=MAX_K, description="how many tracks for each user")] = 100
    events: Given | UnsetType = UNSET


class ManyRecommendations(Struct):
    """A list of tracks to play, best first, for each user, in the order of user_ids."""

    recs: Annotated[list[list[Id]], Meta(examples=[[[679169, 630670], [646516]]])]


class UserEvents(Struct):
    """The tracks of the user's last events, newest first; a track played twice is listed twice."""

    events: TrackIds


class Stored(Struct):
    """The event is stored."""

    result: Annotated[str, Meta(examples=["ok"])] = "ok"


class Receipt(Struct):
    """What was removed. List and history stay in the release's files, but no answer uses them."""

    user_id: Id
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
    events: Annotated[
        str | UnsetType,
        Meta(
            description='where events are in Valkey: "ok", "unverified" if it hides its settings, '
            'or "stale" if answers are made with the events that were seen last',
            examples=["ok"],
        ),
    ] = UNSET


class Problem(Struct):
    """Why a call was refused."""

    status_code: int
    detail: str


Lacks = Annotated[
    dict[str, str],
    Meta(
        description="what the release can't tell, and why, as it was made by an earlier version",
        examples=[{}],
    ),
]


class FoundTrack(NamedTrack):
    """A track that was found."""

    listeners: Annotated[int | None, Meta(description="users who heard it", examples=[812])]


class FoundArtist(Struct):
    """An artist who was found."""

    artist_id: Annotated[int, Meta(examples=[3120])]
    name: Annotated[str, Meta(examples=["AC/DC"])]
    plays: Annotated[int, Meta(description="listens of all their tracks", examples=[2114])]
    tracks: Annotated[int, Meta(description="tracks in the catalogue", examples=[14])]
    best: Annotated[list[NamedTrack], Meta(description="up to 10 of these, the best known first")]


class FoundUser(Struct):
    """A listener who was found."""

    user_id: Annotated[Id, Meta(examples=[47])]
    listens: Annotated[int, Meta(description="in the release", examples=[156])]


class Found(Struct):
    """What a search found, of each kind the most played first."""

    tracks: list[FoundTrack]
    artists: list[FoundArtist]
    users: Annotated[
        list[FoundUser] | None,
        Meta(description="null if the key does not open listeners, or another kind is asked for"),
    ]
    lacks: Lacks


class TrackDetails(NamedTrack):
    """A track, how much it is played, and what is near it."""

    genres: Annotated[list[str] | None, Meta(examples=[["punk"]])]
    listeners: Annotated[int | None, Meta(description="users who heard it", examples=[812])]
    plays: Annotated[int | None, Meta(description="its listens", examples=[1033])]
    top_rank: Annotated[
        int | None,
        Meta(description="its place in the top list, from 1; null without a listen", examples=[9]),
    ]
    trend: Annotated[
        list[int] | None,
        Meta(
            description="its listens in twelve equal parts of the time from trend_from to "
            "trend_until",
            examples=[[70, 81, 90, 84, 79, 88, 92, 85, 90, 95, 88, 91]],
        ),
    ]
    shown_as: Annotated[
        Id | None,
        Meta(description="the track id under which lists show this song, if it is another one"),
    ]
    similar: Annotated[list[NamedTrack], Meta(description="the first `near` similar tracks")]
    next_played: Annotated[list[NamedTrack], Meta(description="tracks played soon after it")]


class Tracks(Struct):
    """What the release knows of tracks, in the order of ids."""

    tracks: list[TrackDetails]
    unknown: Annotated[list[Id], Meta(description="ids that the release does not know")]
    trend_from: Annotated[str | None, Meta(examples=["2023-01-01T00:00:00"])]
    trend_until: Annotated[str | None, Meta(examples=["2023-12-31T23:59:58"])]
    lacks: Lacks


class Listen(NamedTrack):
    """A listen of a user's history."""

    genres: list[str] | None
    started_at: Annotated[
        str | None,
        Meta(description="in UTC; null if it can't be read", examples=["2023-12-31T20:10:00"]),
    ]


class UserDetails(Struct):
    """What is known of a listener, and what is recommended to them."""

    user_id: Id
    known: Annotated[bool, Meta(description="whether the release has a history or list of them")]
    listens: Annotated[int, Meta(description="length of the whole history", examples=[156])]
    events: Annotated[list[NamedTrack], Meta(description="live events, newest first")]
    history: Annotated[list[Listen], Meta(description="a page of the history, newest first")]
    next_offset: Annotated[
        int | None, Meta(description="the offset of the next page; null after the last")
    ]
    final: Annotated[list[NamedTrack], Meta(description="the final list, best first")]
    generators: Annotated[
        dict[str, list[NamedTrack]], Meta(description="what each generator proposes, best first")
    ]
    lacks: Lacks
    left_out: Annotated[
        list[str], Meta(description="generators whose lists the ranker of this release did not get")
    ]


class Report(Struct):
    """A page of the run that made a release."""

    name: Annotated[str, Meta(examples=["evaluation"])]
    title: Annotated[str, Meta(examples=["How good the lists are"])]
    path: Annotated[
        str,
        Meta(
            description="where to get it, relative to /releases; where a key is needed, this "
            "address opens it for ten minutes without one",
            examples=["reports/evaluation?release=20240101T000000"],
        ),
    ]


class ReleaseDetails(Struct):
    """A release in WORK."""

    release: Annotated[str, Meta(examples=["20240101T000000"])]
    served: Annotated[bool, Meta(description="whether this process serves it")]
    current: Annotated[bool, Meta(description="whether `current` points to it")]
    previous: Annotated[bool, Meta(description="whether `previous` points to it")]
    created_at: Annotated[str | None, Meta(examples=["2024-01-01T00:00:00+00:00"])]
    data_until: Annotated[str | None, Meta(examples=["2023-12-31T23:59:58"])]
    size: Annotated[int | None, Meta(description="bytes of its files", examples=[31404202])]
    rows: Annotated[
        dict[str, int], Meta(description="of each table", examples=[{"users.parquet": 2000}])
    ]
    metrics: Annotated[
        dict[str, dict[str, float]],
        Meta(
            description="metrics at 10 for all users, by list",
            examples=[{"final list": {"ndcg": 0.13, "coverage": 0.4}}],
        ),
    ]
    intervals: Annotated[
        dict[str, list[float]],
        Meta(description="95 % interval of NDCG@10 by list", examples=[{"final list": [0.1, 0.2]}]),
    ]
    reports: list[Report]
    command: Annotated[
        str,
        Meta(
            description="what to run to let `current` point to it",
            examples=["python -m jobs.publish --work data --activate 20240101T000000"],
        ),
    ]
    problem: Annotated[str | None, Meta(description="why it can't be read")]


class Releases(Struct):
    """The releases in WORK, the newest first."""

    releases: list[ReleaseDetails]


class Access(Struct):
    """What the given key opens."""

    keys: Annotated[bool, Meta(description="whether the service has keys at all")]
    key: Annotated[
        str,
        Meta(description="none, unknown, read, write, console or admin", examples=["none"]),
    ]
    read: Annotated[bool, Meta(description="lists, search for tracks and artists, releases")]
    write: Annotated[bool, Meta(description="/put_user_event")]
    people: Annotated[bool, Meta(description="histories and the search for listeners")]
    admin: Annotated[bool, Meta(description="/load_recommendations and /forget_user")]
    ids: Annotated[
        dict[str, str] | UnsetType,
        Meta(
            description="the kinds of ids, if some are text: of users and of tracks",
            examples=[{"users": "text", "tracks": "integer"}],
        ),
    ] = UNSET
