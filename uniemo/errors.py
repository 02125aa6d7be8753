"""The one exception that a user of the command line ever reads."""


class UniEmoError(ValueError):
    """A mistake that the user can mend.

    The message is one line that names the argument, the rule, the value and the way out. The command line prints it and
    exits with code 2; from Python it is an ordinary ``ValueError``.
    """
