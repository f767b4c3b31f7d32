"""The names that jobs and service share: files, folders, and the bounds of the contract.

Only the standard library is imported here, so that a job that is skipped starts quickly.
"""

CONTRACT_VERSION = 2  # of this contract: a release of another is refused


MAX_ID = 2**53 - 1  # the largest integer that JSON clients keep exact


LIST_LENGTH = 100  # rows a user or track in the offline lists


WINDOWS = ("train", "validation", "test")  # folders of windows/: train the ranker, choose, report


ALS_MODEL = "als_model.npz"


METRICS = "metrics.json"


REPLAY = "replay.json"


MANIFEST = "manifest.json"


COMPARISON = "comparison.json"  # with the release that was current


CURRENT = "current"  # WORK/current -> WORK/releases/<id>


PREVIOUS = "previous"  # likewise, to what was current before


RELEASES = "releases"


# The service's journal of live events, an SQLite file in WORK/state. `at`, microseconds since 1970
# in UTC, is an event's time and its place in the order of acknowledgement: no two have the same,
# and none is before `forgotten_until`, when a user's events were removed last.
STATE = "state"


JOURNAL = "events.db"


# Who asked to be forgotten, beside the journal: an SQLite file, too. What a user did up to `at`, as
# the journal counts it, is gone. WORK and each release say in a file of their own up to which `at`
# their listens obey that; without it they obey none.
FORGOTTEN = "forgotten.db"


FORGOTTEN_UNTIL = "forgotten.json"


# What publish puts into a release for the service to memory-map: serving/<name>.npy. Lists are
# held as offsets and flat items: those of row i are items[offsets[i]:offsets[i + 1]]. Tracks are
# int32 positions in track_ids, users are positions in user_ids; both arrays are sorted.
SERVING = "serving"


RANKING = "ranking.json"


SPLIT = "split.json"


SETTINGS = "settings.json"
