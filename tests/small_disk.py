"""A disk without room, without root's help: files of this process may not grow beyond a limit."""

import resource
from contextlib import contextmanager


@contextmanager
def files_of_at_most(size):
    """Refuse to write a file beyond ``size`` bytes here and in processes that are started, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
