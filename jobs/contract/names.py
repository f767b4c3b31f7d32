"""The names that jobs and service share: files, folders, and the limits of the contract.

Only the standard library is imported here, so that a job that is skipped starts quickly.
"""

CONTRACT_VERSION = 2  # a release of another version is refused
MAX_ID = 2**53 - 1  # the largest integer that JSON clients keep exact
LIST_LENGTH = 100  # rows for each user or track in the offline lists
NEW_LENGTH = 20  # tracks without a listen for each user
WINDOWS = ("train", "validation", "test")  # folders of windows/
ALS_MODEL = "als_model.npz"
METRICS = "metrics.json"
REPLAY = "replay.json"
MANIFEST = "manifest.json"
COMPARISON = "comparison.json"  # of a new release with the one that was current
CURRENT = "current"  # WORK/current -> WORK/releases/<id>
PREVIOUS = "previous"  # WORK/previous -> the release that was current before
RELEASES = "releases"

# The service's journal of live events, an SQLite file in WORK/state. An event's `at`, microseconds
# since 1970 in UTC, is its time and its place in the order of acknowledgement: no two events have
# the same `at`, and all are later than `forgotten_until`, the last removal of a user's events.
STATE = "state"
JOURNAL = "events.db"

# Which users asked to be forgotten, an SQLite file beside the journal. What a user did up to `at`,
# in the journal's time, is removed. In FORGOTTEN_UNTIL, WORK and each release say up to which `at`
# their listens obey these requests; without that file they obey none.
FORGOTTEN = "forgotten.db"
FORGOTTEN_UNTIL = "forgotten.json"

# The arrays of a release that the service maps into memory: serving/<name>.npy. Lists are ragged
# (see contract.ragged). Tracks are int32 positions in track_ids, users are positions in user_ids;
# both arrays are sorted.
SERVING = "serving"
RANKING = "ranking.json"
SPLIT = "split.json"
CLOCK = "clock.json"
SETTINGS = "settings.json"
