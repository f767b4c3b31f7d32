"""The tracks that the model holds nearest to each user's taste.

    python -m jobs.personal_als --work data

Makes personal_als.parquet: 100 tracks a user, exact (see retrieval.top_k). Where the settings give
a half-life, users are folded in anew with their latest plays weighing most. A user whose vector is
zero gets no tracks: any list would be the same for everyone.
"""

import numpy as np
import pyarrow as pa

from jobs import als_model, command, contract, listens, settings
from jobs.ranked import in_blocks, rows_of
from jobs.retrieval import NormOrder, top_k

USERS_A_BLOCK = 1024


def main() -> str:
    """Make personal_als.parquet."""
    args = command.parser(__doc__).parse_args()
    work, data = args.work, listens.load(args.work, timed=False)
    users, items = als_model.load(work, data.shape)
    chosen = settings.load(work)
    order, gram = NormOrder.of(items), items.T @ items

    def lists(first: int, last: int) -> pa.Table:
        block, tastes = data.of_users(np.arange(first, last)), users[first:last]
        if chosen.folds_in:
            tastes = als_model.recent_tastes(block, items, gram, chosen)
        heard = block.pairs() if chosen.heard == "exclude" else None
        found, scores = top_k(tastes, order, contract.LIST_LENGTH, heard)
        scores[~tastes.any(axis=1)] = -np.inf
        ids = data.user_ids[first:last]
        return rows_of(contract.PERSONAL_ALS, ids, data.track_ids, found, scores)

    written = 0
    with contract.writer(contract.PERSONAL_ALS, work) as append:
        for table in in_blocks(lists, len(users), USERS_A_BLOCK, "personal_als"):
            append(table)
            written += len(table)
    return f"{written:,} rows for {len(users):,} users"


if __name__ == "__main__":
    command.run(main)
