"""What a cleaner raises; the document becomes a dead letter."""


class UncleanableError(Exception):
    """A text that no plain text can be made of: says why, and by which rule."""

    def __init__(self, message: str, rule: str = "uncleanable") -> None:
        super().__init__(message)
        self.rule = rule
