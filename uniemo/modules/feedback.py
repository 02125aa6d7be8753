"""Stage 3: generated images that passed the filter join the training set (explicit feedback)."""

from __future__ import annotations

from typing import ClassVar

from uniemo.checkpoint import FEEDBACK, JOINT
from uniemo.modules.joint import JointModule


class FeedbackModule(JointModule):
    """Train L_joint on real and generated images; arguments as in :class:`JointModule`.

    Generated images have an emotion label and no attributes: they take no part in L_S and L_O. Which images join
    depends on the data module (``data.generated``) or on the ``ExplicitFeedback`` callback, which generates them.
    """

    stage = FEEDBACK
    feedback = True  # see callbacks/protocol.py
    init_stages: ClassVar[tuple[str, ...]] = (JOINT, FEEDBACK)
