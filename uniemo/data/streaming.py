"""Images in parquet or WebDataset shards, here or at ``hf://``, read while training goes on (EmoSet-3.3M).

::

    shards/{train,val,test}-00000-of-00700.parquet    the split by the beginning of the name, or by the folder
    shards/train/000.tar  shards/val/000.tar          WebDataset: a.jpg a.json, b.jpg b.cls, …
    hf://datasets/owner/name                          the same at the hub, or a pattern there
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from torch.utils.data import DataLoader

from uniemo.cache import digest
from uniemo.cache import get as cached
from uniemo.data.batch import EmotionSample
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.dataset import SkippedFiles
from uniemo.data.huggingface import Columns, class_names, feature_of, read_row, split_word
from uniemo.data.images import ImageCache, decode_image
from uniemo.data.lists import SPLIT_WORDS
from uniemo.data.manifest import SPLITS, Layout, Manifest, Split
from uniemo.data.shards import Shard, column_features, count_rows, list_shards
from uniemo.data.transforms import PairedTransform
from uniemo.errors import Count, UniEmoError, check_ranges
from uniemo.vocabulary import Vocabulary, attribute_text
