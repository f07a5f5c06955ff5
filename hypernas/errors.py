"""The exception for mistakes that a user can fix."""


class UserError(ValueError):
    """A mistake that the user can fix, explained in one sentence.

    The sentence states the rule, then the offending value, then what to do. The command line prints it to stderr and
    exits with code 2.
    """


class MissingTable(UserError):
    """A benchmark table was not found; the sentence says how to get it."""
