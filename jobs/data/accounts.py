"""Find accounts that do not play as a listener does: bots, a shop's radio, a script in a loop.

Two habits are suspicious:

    a rate beyond what a person can hear    more than PLAYS_A_DAY plays within 24 hours, which is
                                            one every 30 seconds without a pause, or more than
                                            PLAYS_AN_HOUR within an hour, one every 6 seconds
    one track over and over                 at least SAME_TRACK plays of one track that are at least
                                            three quarters of the account's plays

A rate means something only where the times are those of plays. In a set of ratings people go
through a list, a shop sells many things at once, and dates have no seconds. So rates are judged
only where the typical account (the median one of those with two plays or more) has times that are
finer than minutes, and few gaps below 30 seconds.

If more than 1 % of the accounts are suspicious, and more than one, then the rules do not fit the
data, and nobody is left out. The same holds for one account of fewer than FEWEST_ACCOUNTS.
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from jobs.contract import tables

SECONDS_A_PLAY = 30  # the shortest play that streaming services count
HOUR, A_DAY = 3600, 86_400  # seconds
PLAYS_A_DAY = A_DAY // SECONDS_A_PLAY
PLAYS_AN_HOUR = 600
SAME_TRACK, SAME_SHARE = 100, 0.75  # plays of one track, and their share of the account's plays
HASTY_SHARE = 0.25  # of an account's gaps: with more below SECONDS_A_PLAY it is hasty
COARSE_SHARE = 0.5  # of an account's times: with more at whole minutes it is coarse
MOST_SUSPICIOUS = 0.01  # share of the accounts
FEWEST_ACCOUNTS = 20  # of fewer, none is left out
KEEP, LEAVE_OUT = "keep", "leave-out"
RULES = (LEAVE_OUT, KEEP)  # for the accounts that are found

IN_A_DAY = "plays within 24 hours, more than a person can hear"
IN_AN_HOUR = "plays within an hour, more than a person can hear"
ONE_TRACK = "plays of one track over and over"


@dataclass
class Habits:
    """What is counted of all accounts; parts with whole accounts are added one after the other."""

    accounts: int = 0
    judged: int = 0  # accounts with two plays or more
    hasty: int = 0  # of those, how many have many gaps below SECONDS_A_PLAY
    coarse: int = 0  # of those, how many have times of whole minutes
    fast: dict[int, tuple[str, int]] = field(default_factory=dict)  # by user_id: reason, plays
    repeating: dict[int, tuple[str, int]] = field(default_factory=dict)

    def add(self, user: np.ndarray, track: np.ndarray, at: np.ndarray) -> None:
        """Count the listens (n,) of some whole accounts, by user and time; `at` is in seconds."""
        if not len(user):
            return
        starts = np.flatnonzero(np.append(True, user[1:] != user[:-1]))
        plays = np.diff(starts, append=len(user))
        self.accounts += len(starts)
        self._add_times(starts, plays, at)
        self._add_fast(user, starts, plays, at)
        self._add_repeating(user, starts, plays, track)

    def _add_times(self, starts: np.ndarray, plays: np.ndarray, at: np.ndarray) -> None:
        short = np.append(np.diff(at) < SECONDS_A_PLAY, False)
        short[starts[1:] - 1] = False  # between two accounts
        several = plays > 1
        n_short, n_coarse = (np.add.reduceat(of, starts) for of in (short, at % 60 == 0))
        self.judged += int(np.count_nonzero(several))
        hasty = n_short > HASTY_SHARE * (plays - 1)
        self.hasty += int(np.count_nonzero(several & hasty))
        self.coarse += int(np.count_nonzero(several & (n_coarse > COARSE_SHARE * plays)))

    def _add_fast(
        self, user: np.ndarray, starts: np.ndarray, plays: np.ndarray, at: np.ndarray
    ) -> None:
        for most, seconds, reason in (
            (PLAYS_A_DAY, A_DAY, IN_A_DAY),
            (PLAYS_AN_HOUR, HOUR, IN_AN_HOUR),
        ):
            first, last = slice(None, -most), slice(most, None)
            fast = (at[last] - at[first] < seconds) & (user[last] == user[first])
            for row in np.unique(np.searchsorted(starts, np.flatnonzero(fast), side="right")) - 1:
                own = at[starts[row] : starts[row] + plays[row]]
                within = np.searchsorted(own, own + seconds) - np.arange(len(own))
                self.fast.setdefault(int(user[starts[row]]), (reason, int(within.max())))

    def _add_repeating(
        self, user: np.ndarray, starts: np.ndarray, plays: np.ndarray, track: np.ndarray
    ) -> None:
        # If a track has three quarters of the plays, half of the plays or more (less one) are
        # followed by a play of the same track: each other play breaks at most two such pairs.
        again = np.append(track[1:] == track[:-1], False)
        again[starts[1:] - 1] = False
        possible = np.add.reduceat(again, starts) >= (2 * SAME_SHARE - 1) * plays - 1
        for account in np.flatnonzero(possible & (plays >= SAME_TRACK)).tolist():
            own = track[starts[account] : starts[account] + plays[account]]
            most = int(np.unique(own, return_counts=True)[1].max())
            if most >= max(SAME_TRACK, SAME_SHARE * len(own)):
                self.repeating[int(user[starts[account]])] = ONE_TRACK, most

    @property
    def judges_rates(self) -> bool:
        """Return whether the typical account's times are fine, and few of its gaps are short."""
        return 2 * max(self.hasty, self.coarse) < self.judged

    def suspicious(self) -> dict[int, tuple[str, int]]:
        """Return the reason and the number of plays of each suspicious account, by user_id."""
        return self.repeating | (self.fast if self.judges_rates else {})

    def too_many(self) -> bool:
        """Return whether so many accounts are suspicious that the rules do not fit the data."""
        n = len(self.suspicious())
        return n > max(MOST_SUSPICIOUS * self.accounts, self.accounts >= FEWEST_ACCOUNTS)

    def table(self, rule: str) -> pa.Table:
        """Return the rows of suspicious.parquet; `rule` is one of RULES."""
        found = sorted(self.suspicious().items())
        left_out = rule == LEAVE_OUT and not self.too_many()
        columns = {
            "user_id": [user for user, _ in found],
            "reason": [reason for _, (reason, _) in found],
            "value": [value for _, (_, value) in found],
            "left_out": [left_out] * len(found),
        }
        return pa.table(columns, schema=tables.SUSPICIOUS.schema)

    def sentence(self, rule: str) -> str:
        """Return what prepare says of the suspicious accounts, or "" if there are none."""
        n = len(self.suspicious())
        if not n:
            return ""
        found = (
            f"{n:,} of {self.accounts:,} accounts {'play' if n > 1 else 'plays'} unlike a listener"
        )
        if self.too_many():
            return f"{found}, which is so many that the rules do not fit the data; none is left out"
        if rule == KEEP:
            return f"{found}; {'they count' if n > 1 else 'it counts'} as all others"
        return (
            f"{found}; {'they are' if n > 1 else 'it is'} left out of what all users get "
            "(--suspicious keep counts them)"
        )
