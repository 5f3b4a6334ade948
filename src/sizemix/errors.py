"""The one exception for a user's mistake: printed as a sentence, without a traceback."""


class UserError(ValueError):
    """Something the user gave does not fit; the message says what was expected, what came and what to do."""
