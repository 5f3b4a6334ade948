"""The exceptions that end as a sentence, without a traceback."""


class UserError(ValueError):
    """Something the user gave does not fit; the message says what was expected, what came and what to do."""


class DiskFullError(UserError):
    """A file did not fit on its disk; what stood in its place is as it was."""
