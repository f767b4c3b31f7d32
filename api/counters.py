"""What /get_statistics counts."""


class Counters:
    """Answers of /recommendations since the start, by the kind of their offline list."""

    def __init__(self) -> None:
        self.personal = 0
        self.default = 0

    def count(self, personal: bool) -> None:
        """Count one answer."""
        if personal:
            self.personal += 1
        else:
            self.default += 1
