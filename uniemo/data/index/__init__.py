"""The index that makes every start after the first a quick one."""

from uniemo.data.index.emoset import EmoSetIndex, emoset_records

__all__ = ["EmoSetIndex", "emoset_records"]
