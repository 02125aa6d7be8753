"""Published checkpoints in, other programs' formats out."""
