"""Every layout of every dataset, and the published numbers; needs neither torch nor Lightning."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from uniemo.data.layouts import emoset, emotionroi, fi, sentibank, twitter
from uniemo.data.listing import Layout, Listing, find_layout
from uniemo.errors import UniEmoError

DATASETS: dict[str, str] = {
    name: f"uniemo.data.{name}" for name in ("EmoSet", "FI", "EmotionROI", "TwitterI", "TwitterII")
}


def _exports() -> tuple[Layout, ...]:
    """Return EmoSet's Hugging Face layouts."""
    if find_spec("uniemo.data.huggingface") is None:
        return ()
    return tuple(import_module("uniemo.data.huggingface").LAYOUTS)


# The most telling first: files of a fixed name, then lists of a form, then folders alone.
LAYOUTS: tuple[Layout, ...] = (
    *emoset.LAYOUTS,
    *_exports(),
    *twitter.LAYOUTS,
    *emotionroi.LAYOUTS,
    *fi.LAYOUTS,
    *sentibank.LAYOUTS,
)

# Images by split and emotion; "all" stands for every split or every emotion.
PUBLISHED: dict[str, dict[str, dict[str, int]]] = {
    # Yang et al., "EmoSet", ICCV 2023: 118,102 images, 80 : 5 : 15.
    "EmoSet": {"train": {"all": 94481}, "val": {"all": 5905}, "test": {"all": 17716}, "all": {"all": 118102}},
    # You et al., "Building a Large Scale Dataset for Image Emotion Recognition", AAAI 2016. Links rot: copies with
    # 23,185, 22,683 and 22,086 images are in use.
    "FI": {
        "all": {
            "all": 23308,
            "amusement": 4942,
            "awe": 3151,
            "contentment": 5374,
            "excitement": 2963,
            "anger": 1266,
            "disgust": 1658,
            "fear": 1032,
            "sadness": 2922,
        }
    },
    # Peng et al., "Where Do Emotions Come From?", ICIP 2016: 330 of each emotion, 70 : 30.
    "EmotionROI": {
        "train": {"all": 1386},
        "test": {"all": 594},
        "all": {
            "all": 1980,
            "anger": 330,
            "disgust": 330,
            "fear": 330,
            "joy": 330,
            "sadness": 330,
            "surprise": 330,
        },
    },
    # You et al., "Robust Image Sentiment Analysis Using Progressively Trained and Domain Transferred Deep Networks",
    # AAAI 2015, by the number of annotators that agree; five is the default of data.agreement.
    "TwitterI": {"all": {"all": 882, "positive": 581, "negative": 301}},
    "TwitterI four": {"all": {"all": 1116, "positive": 689, "negative": 427}},
    "TwitterI three": {"all": {"all": 1269, "positive": 769, "negative": 500}},
    # Borth et al., "Large-scale Visual Sentiment Ontology and Detectors Using Adjective Noun Pairs", ACM MM 2013.
    "TwitterII": {"all": {"all": 603, "positive": 470, "negative": 133}},
}


def layouts_of(dataset: str | None) -> tuple[Layout, ...]:
    """Return the layouts of one dataset, or all.

    Raises:
        UniEmoError: no such dataset.
    """
    if dataset is None:
        return LAYOUTS
    if dataset not in DATASETS:
        raise UniEmoError(f"dataset must be one of {', '.join(DATASETS)}; got {dataset!r}")
    return tuple(layout for layout in LAYOUTS if layout.dataset == dataset)


def recognise(root: Path, forced: str | None = None, dataset: str | None = None) -> tuple[Layout, Path]:
    """Recognise the layout of a tree.

    Args:
        root: folder that the user gave.
        forced: name of the layout to take without looking.
        dataset: look among this dataset's layouts only.

    Raises:
        UniEmoError: as :func:`uniemo.data.listing.find_layout`.
    """
    return find_layout(root, layouts_of(dataset), forced)


def read_listing(
    root: Path, forced: str | None = None, dataset: str | None = None, **options: str | int | None
) -> Listing:
    """Recognise a tree's layout and list its images.

    Args:
        root: folder that the user gave.
        forced: name of the layout to take without looking.
        dataset: look among this dataset's layouts only.
        options: the dataset's own, for example ``agreement`` of Twitter I; None takes its default.

    Raises:
        UniEmoError: no such layout, or its files cannot be used.
    """
    layout, folder = recognise(root, forced, dataset)
    given = {name: value for name, value in options.items() if value is not None and name in layout.options}
    return layout.read(folder, **given)
