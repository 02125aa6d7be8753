"""The one exception that a user of the command line ever reads."""

import errno

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # reported without the file's name


class UniEmoError(ValueError):
    """A mistake that the user can mend.

    The message is one line that names the argument, the rule, the value and the way out. The command line prints it and
    exits with code 2; from Python it is an ordinary ``ValueError``.
    """


def one_line(error: BaseException) -> str | None:
    """Return the line for an error that the user can mend; None for any other."""
    if isinstance(error, UniEmoError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and (error.filename is not None or error.errno in _DISK):
        return f"{error.strerror or error}" + ("" if error.filename is None else f": {error.filename}")
    return None
