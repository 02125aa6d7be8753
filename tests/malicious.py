"""A pickle that would make a folder if anything in it were run."""

import os


class Malicious:
    """Ask for ``os.mkdir(path)`` when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)
