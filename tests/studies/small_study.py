"""A small study for tests, its cells made by ``fake_command.py``."""

import sys
from pathlib import Path

FAKE = (sys.executable, str(Path(__file__).parent / "fake_command.py"))


def content():
    """A small study: two methods, the second of which starts from a stage that both columns share."""
    tested = {"run": "test", "args": "--ckpt {here}/fit/best.ckpt --accuracy {accuracy}"}
    return {
        "title": "Table X: things",
        "claim": "ours is better",
        "seeds": 2,
        "metrics": {
            "Accuracy": {"key": "accuracy", "percent": True, "digits": 1},
            "FID": {"key": "FID", "best": "low"},
        },
        "rows": [
            {"group": "Others"},
            {"label": "Theirs", "note": "B/32", "paper": {"Accuracy": 70}},
            {"label": "Plain", "paper": {"Accuracy": 60, "FID": 9}, "cell": "plain", "with": {"accuracy": 0.5}},
            {"group": "Ours"},
            {"label": "Ours", "paper": {"Accuracy": 80}, "cell": "second", "with": {"accuracy": 0.75}},
            {"label": "Large", "cell": "plain", "with": {"accuracy": 0.9}, "not_run": {"miniature": "too large"}},
        ],
        "checks": [{"claim": "ours above plain", "better": "Ours", "than": "Plain", "in": ["Accuracy"]}],
        "parameters": {"tower": {"small": {}, "big": {"paper": "--tower big", "miniature": "--tower mini"}}},
        "cells": {
            "plain": {"defaults": {"tower": "small"}, "steps": [{"run": "fit", "args": "{tower}"}, tested]},
            "first": {"steps": [{"run": "fit", "args": "--first"}]},
            "second": {
                "steps": [{"run": "fit", "args": "--init {cell:first}/fit/best.ckpt", "quick": "--short"}, tested]
            },
        },
    }


def changed(path, value):
    """The small study with one thing changed (None: removed); ``path`` is keys with dots."""
    values = content()
    part = values
    *keys, last = path.split(".")
    for key in keys:
        part = part[int(key) if key.isdigit() else key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return values
