"""What a cleaner raises; the document becomes a dead letter."""


class UncleanableError(Exception):
    """A text that no plain text can be made of: says why."""
