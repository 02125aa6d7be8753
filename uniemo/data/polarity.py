"""What Twitter I and Twitter II share: their labels, and the folders that their lists may mean."""

from __future__ import annotations

import re
from pathlib import Path

from uniemo.data.files import child
from uniemo.data.lists import Labels
from uniemo.taxonomy import POLARITY_2

# 1 is positive in the datasets' own files (EmoSet's two-class order is the other way round).
LABELS = Labels(
    POLARITY_2,
    {"1": "positive", "+1": "positive", "pos": "positive", "0": "negative", "-1": "negative", "neg": "negative"},
)
# names of Twitter I's lists and folders of lists, by how many of five annotators agree at least
AGREES = r"(?:twitter_?)?(three|four|five|3|4|5)_?agrees?"
AGREES_CSV = re.compile(AGREES + r"\.csv", re.IGNORECASE)


def list_folders(root: Path) -> list[str]:
    """Return the folders that a list may mean, those with images first."""
    found = child(root, "images", "image", "imgs"), child(root, "Agg_AMT_Candidates"), child(root, "twitter")
    return [*(path.name for path in found if path is not None and path.is_dir()), ""]
