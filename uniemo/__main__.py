"""``python -m uniemo`` is the ``uniemo`` command."""

import sys

from uniemo.cli import main

if __name__ == "__main__":
    sys.exit(main())
