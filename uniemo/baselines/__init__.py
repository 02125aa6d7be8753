"""What people would use instead of UniEmo, trained and tested by the same commands on the same data.

A baseline is one file here and one configuration in ``configs/baselines``. To add one:

1. write ``uniemo/baselines/<method>.py``, a class with ``method = "<method>"``. One that tells emotions derives from
   :class:`uniemo.baselines.base.UnderstandingBaseline` and says in ``make_model`` which network turns images into
   logits; one that draws images derives from :class:`uniemo.baselines.generation.GenerationBaseline`;
2. write ``configs/baselines/<method>.yaml``, which runs on the embedded miniature, with the source of each number.

``uniemo fit``, ``test``, ``validate``, ``predict``, ``classify`` and ``generate`` find it by its class in the
configuration and by ``method`` in a checkpoint; nothing else has to be told.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

from uniemo.errors import UniEmoError

if TYPE_CHECKING:
    from uniemo.modules.emotion import EmotionModule


def find_method(name: str) -> type[EmotionModule]:
    """Return the class of a baseline.

    Args:
        name: as checkpoints say it; the baseline's file is called so.

    Raises:
        UniEmoError: there is none of that name.
    """
    if name in {module.name for module in pkgutil.iter_modules(__path__)}:
        for value in vars(importlib.import_module(f"{__name__}.{name}")).values():
            if isinstance(value, type) and getattr(value, "method", "") == name:
                return value
    raise UniEmoError(f"checkpoint must be of a baseline that this version of uniemo has; got {name!r}: update uniemo")
