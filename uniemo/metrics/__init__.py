"""Metrics of generated images, each named after the network that saw the images, and of label distributions.

Everything is imported at first use, as in :mod:`uniemo.data`: torchmetrics takes a second to load.
"""

from typing import Any

_FILES = {
    "base": ("ImageMetric", "PairMetric", "SuiteMetric"),
    "clip_score": ("CLIPScore",),
    "emo_a": ("EmoA",),
    "classifier": ("EmotionClassifier",),
    "classifier_training": ("ClassifierConfig",),
    "fid": ("FID", "FeatureStatistics"),
    "label_distribution": ("Canberra", "Chebyshev", "Clark", "Cosine", "Intersection", "KullbackLeibler"),
    "lpips": ("LPIPS",),
    "outputs": ("Output", "protocol_outputs"),
    "pairs": ("plan_evaluation",),
    "protocols": ("EMOGEN", "PROTOCOLS", "STRICT", "Protocol"),
    "sem_c": ("SemC",),
    "sem_d": ("SemD",),
    "suite": ("MetricSuite",),
}
_FILE_OF = {name: file for file, names in _FILES.items() for name in names}
__all__ = sorted(_FILE_OF)


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the file of a name when it is first asked for."""
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
