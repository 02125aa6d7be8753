"""Prompts with a place for the emotion, one by one and from a file."""

from __future__ import annotations

from pathlib import Path

from uniemo.errors import UniEmoError
from uniemo.text_files import read_utf8


def check_prompt(prompt: str, option: str) -> None:
    """Raise UniEmoError for a prompt that has no place for the emotion."""
    if "{}" not in prompt:
        raise UniEmoError(
            f'{option} must hold {{}} where the emotion goes; got {prompt!r}: write for example "a {{}} room"'
        )


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a text file, one a line; empty lines are passed over.

    Raises:
        UniEmoError: no such file, no prompt in it, one without ``{}``, or one twice.
    """
    try:
        lines = [line.strip() for line in read_utf8(path.expanduser()).splitlines()]
    except (OSError, ValueError) as error:
        raise UniEmoError(f"--prompts must be a readable text file; {path} is not ({error}): give another") from error
    found: dict[str, int] = {}  # line by prompt
    for line, prompt in enumerate(lines, start=1):
        if prompt:
            check_prompt(prompt, f"--prompts {path}, line {line},")
            if prompt in found:
                raise UniEmoError(
                    f"--prompts must hold each prompt once; {path} has {prompt!r} in lines {found[prompt]} and {line}: "
                    "raise --num for more images"
                )
            found[prompt] = line
    if not found:
        raise UniEmoError(f'--prompts must hold a prompt, for example "a {{}} room"; {path} holds none')
    return list(found)
