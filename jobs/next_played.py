"""What is played soon after a track, in the order of people's own plays.

    python -m jobs.next_played --work data

Makes next_played.parquet, up to 100 tracks each, and followers.parquet, more of them with more
detail for the ranker. Every listen counts towards the plays that follow
it in the same user's history, less with every step between them; the count is divided by powers of
how often the two tracks are played, so that what is merely popular doesn't stand everywhere.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix, diags_array
from tqdm import tqdm

from jobs import command, contract, listens, settings
from jobs.listens import Listens
from jobs.ranked import best_of_rows, look_up, rows_of
from jobs.retrieval import NOTHING
from jobs.settings import Settings

MOST_FOLLOWERS = 50_000_000


def follow_counts(data: Listens, window: int, decay: float) -> csr_matrix:
    """(items, items) float32: plays of the column's track within `window` plays after the row's.

    The play right after counts 1, each later one `decay` times the one before; a track doesn't
    follow itself.
    """
    n = data.shape[1]
    result = csr_matrix((n, n), dtype=np.float32)
    for step in tqdm(range(1, window + 1), "next_played", leave=False, disable=None):
        first, then = data.item[:-step], data.item[step:]
        kept = (data.user[:-step] == data.user[step:]) & (first != then)
        weights = np.full(np.count_nonzero(kept), decay ** (step - 1), np.float32)
        result += csr_matrix((weights, (first[kept], then[kept])), (n, n))
    return result


def normalise(counts: csr_matrix, plays: np.ndarray, chosen: Settings) -> csr_matrix:
    """Divide by powers of the row's weight and of the column's plays."""
    followed = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1e-9)
    source = followed**-chosen.next_source_exponent
    target = np.maximum(plays, 1.0) ** -chosen.next_target_exponent
    return csr_matrix(diags_array(source) @ counts @ diags_array(target), dtype=np.float32)


def kept_a_track(tracks: int) -> int:
    """How many followers of each track the ranker may look at: at most MOST_FOLLOWERS in all."""
    return max(contract.LIST_LENGTH, min(1000, MOST_FOLLOWERS // max(tracks, 1)))


def main() -> str:
    """Make followers.parquet and next_played.parquet."""
    work = command.parser(__doc__).parse_args().work
    chosen, data = settings.load(work), listens.load(work)
    ids, plays = data.track_ids, np.bincount(data.item, minlength=data.shape[1])
    within = normalise(follow_counts(data, chosen.next_window, chosen.next_decay), plays, chosen)
    found, scores = best_of_rows(within, kept_a_track(len(ids)))
    table = rows_of(contract.NEXT_PLAYED, ids, ids, found, scores)
    row, place = np.nonzero(found != NOTHING)
    directly = normalise(follow_counts(data, 1, 1.0), plays, chosen)
    directly = look_up(directly, row, found[row, place])
    contract.write(contract.FOLLOWERS, work, table.append_column("directly", pa.array(directly)))
    short = table.filter(pc.less_equal(table["rank"], contract.LIST_LENGTH))
    contract.write(contract.NEXT_PLAYED, work, short)
    return f"{len(short):,} rows for {len(np.unique(row)):,} tracks; {len(table):,} for the ranker"


if __name__ == "__main__":
    command.run(main)
