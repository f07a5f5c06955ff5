"""The one exception for mistakes of a user."""


class UserError(ValueError):
    """A mistake that the user can put right, told in one sentence.

    The sentence gives the rule first, then the value, then what to do. The command line prints it
    to stderr and exits with code 2.
    """


class MissingTable(UserError):
    """A benchmark table that is nowhere; the sentence names what brings it."""
