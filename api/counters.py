"""What /get_statistics and /metrics count."""


class Counters:
    """What happened since the start; answers of /recommendations by their offline list."""

    def __init__(self) -> None:
        self.personal = 0
        self.default = 0
        self.events = 0  # taken in
        self.unknown_tracks = 0  # of these, those of a track that the release lacks
        self.swaps = 0  # releases that were taken
        self.refusals = 0  # and refused

    def count(self, personal: bool) -> None:
        """Count one answer."""
        if personal:
            self.personal += 1
        else:
            self.default += 1
