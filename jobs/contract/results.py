"""The JSON files that the jobs write: each is one struct, which its writer and its readers share.

Readers ignore keys that they do not know, so a file of a later version with more keys can be read.
A missing key or a wrong type is an error: see storage.read_json.
"""

from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from msgspec import UNSET, Struct, UnsetType, field

from jobs.contract.blending import Blending, Rule, Source, upgraded
from jobs.contract.names import MANIFEST
from jobs.contract.storage import read_json
from jobs.contract.text_ids import Kinds


class Split(Struct):
    """split.json of a window: how the listens were cut into its past and its holdout."""

    split: str  # "time" or "user"
    reason: str  # why this split was taken
    share: float  # of the listens that the holdout has
    gap_days: float  # between the past and the holdout
    users: float  # share of all users that the window is made of
    cut: str  # the moment of the cut, or its place in each user's history


class Clock(Struct):
    """clock.json: how prepare judged the times of the listens."""

    now: datetime  # the moment of the run, or --now
    bounds: str  # the days from which and up to which a time counts as right
    later_than_now: int  # listens that were left out because they are over a day later than now
    far: int  # listens that were left out because they are outside the bounds


class KindsOfRows(Struct):
    """kinds.json: what the rows of the interactions are that could be used."""

    rows: dict[str, int]  # by kind: listen, skip, like, unlike, dislike, undislike
    skip_under: float  # the share of a track of which less has to be played: --skip-under
    skips_by_share: int  # skips that are so because less was played
    shares: int  # listens of which it is known how much was played


class ForgottenUntil(Struct):
    """forgotten.json: the newest request to be forgotten that the listens beside it obey."""

    until: int  # the seq of its tombstone; in files made before, a time that is smaller


class Ratio(Struct):
    """The mean of one list's metric over that of another, with its 95 % interval.

    None where the other mean is 0, and for the interval where too many of its draws are.
    """

    ratio: float | None
    low: float | None
    high: float | None

    @property
    def known(self) -> tuple[float, float, float] | None:
        """Return ratio, low and high; None where one of them is not known."""
        if self.ratio is None or self.low is None or self.high is None:
            return None
        return self.ratio, self.low, self.high


class Ranking(Struct):
    """ranking.json: which rule orders the final lists, and what it was compared with."""

    rule: str
    ndcg_on_validation: dict[str, float] = field(name="ndcg@10_on_validation")  # by rule
    fusion_weights: dict[str, float]  # by generator
    feature_importance: dict[str, float]  # by feature, in per cent; empty without a ranker
    users: int | None = None  # of the window validation, by whom the rule was chosen
    too_few: bool = False  # whether they are too few to choose by, so that the rule is the default
    new_share: float = 0  # share of the places that is reserved for tracks without a listen
    ndcg_with_new: float | None = field(name="ndcg@10_with_new", default=None)  # by `rule`
    artist_limit: int | None = None  # tracks by one artist in the first 10; None: no limit
    # by limit, "off" among them; empty if none was compared
    ndcg_by_artist_limit: dict[str, float] = field(
        name="ndcg@10_by_artist_limit", default_factory=dict
    )
    runner_up: str | None = None  # the rule that `rule` was last compared with
    over_runner_up: Ratio | None = None  # NDCG@10 of `rule` over it, on the window validation
    # of `rule` and the runner-up, for the report only; empty where no rule was chosen
    ndcg_on_test: dict[str, float] = field(name="ndcg@10_on_test", default_factory=dict)
    switched_off: list[str] = field(default_factory=list)  # generators that jobs.rank did without
    trees: int | None = None  # of the ranker; None without one


class Gain(Struct):
    """How much higher the hit@10 of one list is than that of another, with its 95 % interval."""

    gain: float
    low: float
    high: float


class ReplayedPlays(Struct, kw_only=True):
    """Plays with the same number of events before them: hit@10 of each list."""

    events_seen: str = field(name="events seen")
    plays: int
    offline: float
    online: float
    blend: float
    exchanged: float | UnsetType = UNSET  # missing where there is one session only
    blend_ratio: float | None = field(name="blend / offline")  # None where offline has no hit
    exchanged_ratio: float | UnsetType | None = field(name="exchanged / offline", default=UNSET)
    gains: dict[str, Gain] = {}  # over the offline list, by list; files made before have none


class TriedRule(Blending, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A blending that was compared on the window "validation"."""

    hit_rate: float = field(name="hit@10")


class JudgedBlend(Struct):
    """A blend, judged by users who took no part in its search; all of them together."""

    rule: Rule
    share: float  # of the weights that the search found; 0 of the offline list
    hit_rate: float = field(name="hit@10")
    gain: Gain  # over the offline list
    served: bool


Reason = Literal["few users", "worse", "best", "cautious"]


class BlendingChoice(Struct):
    """Why the blending of a release was chosen.

    The reason is "few users" (the default is served), "worse" (every blend was surely worse than
    the offline list, which is served), "best", or "cautious" (a blend that is not clearly worse
    than the best one, and nearer to the offline list).
    """

    reason: Reason
    users: int  # of the window "validation" with a play after an event
    offline: float | None = None  # hit@10 of the offline list there; None for few users
    judged: list[JudgedBlend] = []  # by falling share of the weights; empty for few users
    missing: list[Source] = []  # sources that bring no track there


class Replay(Struct):
    """replay.json: the blending that was chosen, and hit@10 in the windows."""

    blending: Blending
    users: int = 0
    choice: BlendingChoice | None = None  # None in files made before
    test: list[ReplayedPlays] = []
    gains: dict[str, Gain] = {}  # of the means after 1, 2 and 3+ events over offline, by list
    over_control: Gain | None = None  # of the blend over "exchanged", in the same way
    validation: list[TriedRule] = []  # the best first


Scores = dict[str, dict[str, dict[str, float]]]
"""Means of a list's metrics: by kind of user ("all", "warm", "cold"), length ("@10") and metric."""


class ReportSize(Struct):
    """The part of metrics.json's window that the gate needs: what the lists were scored on."""

    users: int | None = None
    labels: int | None = None
    split: str | None = None
    heard: str | None = None


class ListMetrics(Struct):
    """The part of metrics.json that gate and service need; an old release may lack some of it."""

    lists: dict[str, Scores] = {}  # by name: "top popular", "personal ALS", "final list"
    intervals: dict[str, tuple[float, float]] = {}  # of NDCG@10 by list, its 95 % interval
    generators: dict[str, Scores] = {}  # of the list of each generator alone


class GateMetrics(ListMetrics):
    """The same, and what the lists were scored on."""

    window: ReportSize = field(default_factory=ReportSize)


class Comparison(Ratio):
    """NDCG@10 of the final list over that of another."""

    compared: str = field(name="list")  # the other list


class LeftOut(Ratio):
    """NDCG@10 of a ranker without a generator, and over that of the one with all."""

    ndcg: float = field(name="ndcg@10")


class EvaluatedWindow(Split):
    """How the window "test" was cut, and what its lists were scored on; users is their number."""

    users: int
    warm: int  # users with a past
    cold: int
    labels: int  # pairs of a user and a track played after the cut
    catalogue: int  # tracks with a play before the cut
    tracks: int  # of items.parquet
    heard: str
    als_epochs: int
    diversity: str  # what makes two tracks alike


class SegmentScores(Struct):
    """A part of the users or tracks: NDCG@10 of each list on it."""

    what: str
    users: int
    labels: int
    ndcg: dict[str, float] = field(name="ndcg@10")
    over_best_single: Ratio
    recall: float | None = None  # share of the labels that are among the candidates
    best_order: float | None = None  # NDCG@10 of the best order of the candidates


class GeneratorRecall(Struct):
    """What one generator brings to the candidates: shares of all labels."""

    users: int  # who have a list of it
    recall: float
    alone: float  # of labels that no other generator brings


class ArtistSpread(Struct):
    """The first ten tracks of final lists, means over users with a past: by whom they are."""

    artists: float  # how many different ones
    most: float  # how many tracks by one and the same
    coverage: float
    ndcg: float = field(name="ndcg@10")


class ArtistLimit(Struct):
    """How many of the first ten tracks may be by one artist, and what that costs."""

    limit: int | None
    final: ArtistSpread
    without: ArtistSpread  # the same lists without the limit


class CandidateRecall(Struct):
    """Which share of the labels the candidates hold: of all generators together, and of each."""

    labels: int
    union: float
    generators: dict[str, GeneratorRecall]


class BaselineSetting(Struct):
    """The setting of a baseline that was best on the window "validation"."""

    setting: dict[str, Any]
    settings_tried: int
    ndcg_on_validation: float | UnsetType = field(name="ndcg@10_on_validation", default=UNSET)


class Ablation(Struct):
    """The ranker without each generator, and ALS after each epoch; empty without warm users."""

    left_out: dict[str, LeftOut]
    als_by_epoch: list[float]  # NDCG@10


class Metrics(ListMetrics):
    """metrics.json: what jobs.evaluate measured on the window "test"."""

    lists: dict[str, Scores]
    intervals: dict[str, tuple[float, float]]
    window: EvaluatedWindow
    generators: dict[str, Scores]
    comparisons: dict[str, Comparison]
    segments: dict[str, SegmentScores]
    candidates: CandidateRecall
    lists_by_id: dict[str, Scores] | UnsetType = UNSET  # no other id of the song is a hit
    artists: ArtistLimit | UnsetType = UNSET  # where tracks have artists
    peers: dict[str, Scores] | UnsetType = UNSET  # with --peers
    peer_settings: dict[str, BaselineSetting] | UnsetType = UNSET
    ablation: Ablation | UnsetType = UNSET  # with --ablation


class Change(Struct):
    """A value of the current release and of the new one."""

    old: float
    new: float
    change: float | None  # by which share of old; None where old is 0


class MetricChange(Change):
    """The same of a metric; NDCG has its 95 % intervals too, None where a release lacks them."""

    old_interval: tuple[float, float] | UnsetType | None = UNSET
    new_interval: tuple[float, float] | UnsetType | None = UNSET


class Turnover(Change):
    """How many ids there were and are, how many are new and how many are lost."""

    come: int
    gone: int


class Overlap(Struct):
    """Which share of a user's list stayed, the mean over users with a list in both releases."""

    users: int
    first_10: float | None = field(name="@10")  # None without such users
    first_100: float | None = field(name="@100")


class ReleaseComparison(Struct):
    """comparison.json of a release: what changed beside the one that was current."""

    old: str  # the releases' ids
    new: str
    metrics: dict[str, MetricChange]  # at 10, of the final list
    rows: dict[str, Change]  # by file
    report: dict[str, Change]  # users and labels of the report, and days that the listens span
    notes: list[str]  # what else differs in how the reports were made, in words
    overlap: Overlap
    tracks: Turnover
    users: Turnover
    falls: list[str]  # what fell further than the gate allows, in words


class FileEntry(Struct):
    """What the manifest says of one file."""

    sha256: str
    bytes: int
    rows: int | None  # None where it is no table


class DataRange(Struct):
    """The times of the first and the last listen that a release is made of, in UTC."""

    first: str
    last: str


class ServedSettings(Struct):
    """The part of a release's settings that the service needs; als_ is how users are folded in."""

    heard: Literal["exclude", "include"]
    blending: Blending
    als_regularization: float
    als_unobserved: float
    als_exponent: float
    als_repeats: float
    als_half_life: float | None
    # plays after which a play counts half, by generator; a release made before may lack them
    next_half_life: float | UnsetType | None = UNSET
    similar_half_life: float | UnsetType | None = UNSET
    own_half_life: float | UnsetType | None = UNSET


class MixedProcessor(Struct):
    """A kind of processor, of several by which lists of a release were computed."""

    vector_instructions: str  # as "avx, avx2, fma"
    blas_kernel: str  # as "openblas SkylakeX"


Settings = TypeVar("Settings")


class Manifest(Struct, Generic[Settings], kw_only=True):
    """manifest.json of a release: its files, what they hold, and what they are made from.

    jobs.publish writes all settings of the run; the service reads Manifest[ServedSettings].
    """

    id: str
    contract: int  # names.CONTRACT_VERSION
    created_at: datetime
    files: dict[str, FileEntry]  # by path in the release
    schemas: dict[str, dict[str, str]]  # of each table, the types by column
    serving: dict[str, str]  # the types by array
    metrics: ListMetrics = field(default_factory=ListMetrics)  # the content of metrics.json
    settings: Settings
    data: DataRange | None = None
    forgotten_until: int = 0  # see ForgottenUntil
    # the kinds of ids, of "users" and of "tracks"; UNSET: all are whole numbers
    ids: dict[str, str] | UnsetType = UNSET
    # the kinds of processors, where a cluster with several has computed lists; UNSET: all are alike
    mixed_processors: list[MixedProcessor] | UnsetType = UNSET

    @property
    def kinds(self) -> Kinds:
        """Return of which kinds the ids are."""
        return Kinds() if self.ids is UNSET else Kinds(**self.ids)


def read_manifest(folder: Path) -> Manifest[ServedSettings]:
    """Read the manifest of a release; JobError where it can't be used."""
    return read_json(folder / MANIFEST, "jobs.publish", Manifest[ServedSettings], upgrade_manifest)


def upgrade_manifest(content: Any) -> Any:
    """Return the content of a manifest with its blending in the present form."""
    if isinstance(content, dict) and "settings" in content:
        return content | {"settings": upgrade_blending(content["settings"])}
    return content


def upgrade_blending(content: Any) -> Any:
    """Return the content of a file with a blending in the present form; see blending.upgraded."""
    if isinstance(content, dict) and "blending" in content:
        return content | {"blending": upgraded(content["blending"])}
    return content
