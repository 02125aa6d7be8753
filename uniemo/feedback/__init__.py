"""Explicit feedback: which generated images are good enough to train on."""

from uniemo.feedback.filtering import dual_metric_filter, filter_index, score_index

__all__ = ["dual_metric_filter", "filter_index", "score_index"]
