"""The names that jobs and service share: files, folders, and the limits of the contract.

Only the standard library is imported here, so that a job that is skipped starts quickly.
"""

CONTRACT_VERSION = 2  # a release of another version is refused
MAX_ID = 2**53 - 1  # the largest integer that JSON clients keep exact
CLOCK_TOLERANCE = 86_400_000_000  # a time may be so many microseconds later than now: clocks differ
LIST_LENGTH = 100  # rows for each user or track in the offline lists
NEW_LENGTH = 20  # tracks without a listen for each user
WINDOWS = ("train", "validation", "test")  # folders of windows/, in order of time
EARLIER = ("train3", "train2")  # folders of windows/ before "train", where the windows are small
ALS_MODEL = "als_model.npz"
METRICS = "metrics.json"
REPLAY = "replay.json"
MANIFEST = "manifest.json"
COMPARISON = "comparison.json"  # of a new release with the one that was current
CURRENT = "current"  # WORK/current -> WORK/releases/<id>
PREVIOUS = "previous"  # WORK/previous -> the release that was current before
RELEASES = "releases"
REPORTS = "report"  # a folder of WORK and of each release; those in releases name no user
RELEASE_PAGE = f"{REPORTS}/release.html"  # the comparison as a page

# The service's journal of live events, an SQLite file in WORK/state. An event's `seq` is its place
# in the order of acknowledgement: it only grows, and is larger than `forgotten_until`, where events
# of a user were last removed. Its `at`, microseconds since 1970 in UTC, is what the clock said.
STATE = "state"
JOURNAL = "events.db"

# Which users asked to be forgotten, an SQLite file beside the journal. A user's events up to `seq`,
# a place in the journal's sequence, are removed; listens with a time only are, up to `asked_at`.
# In FORGOTTEN_UNTIL, WORK and each release say up to which `seq` their listens obey these requests;
# without that file they obey none.
FORGOTTEN = "forgotten.db"
FORGOTTEN_UNTIL = "forgotten.json"

# The arrays of a release that the service maps into memory: serving/<name>.npy. Lists are ragged
# (see contract.ragged). Tracks are int32 positions in track_ids, users are positions in user_ids;
# both arrays are sorted.
SERVING = "serving"
RANKING = "ranking.json"
SPLIT = "split.json"
CLOCK = "clock.json"
KINDS = "kinds.json"
SETTINGS = "settings.json"
