"""Generating folders of images, and filtering them for explicit feedback (Algorithm 1)."""

from uniemo.generation.filtering import dual_metric_filter, filter_index, score_index

__all__ = ["dual_metric_filter", "filter_index", "score_index"]
