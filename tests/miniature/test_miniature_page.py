"""docs/miniature.md shows what the package computes."""

import json
from pathlib import Path

import uniemo
from uniemo.miniature.table import table_report

PAGE = (Path(__file__).parents[2] / "docs" / "miniature.md").read_text(encoding="utf-8")


def test_page_shows_the_table_and_the_quality():
    assert table_report().rstrip() in PAGE
    quality = Path(uniemo.__file__).parent / "miniature" / "weights" / "quality.json"
    for name, value in json.loads(quality.read_text()).items():
        assert f"| {name.replace('_', ' ')} | {value:.4g} |" in PAGE
