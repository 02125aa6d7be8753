"""Agreement of predicted with rated valence and arousal over a split, each sample counted once."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.regression import concordance_corrcoef, mean_squared_error
from torchmetrics.utilities import dim_zero_cat

from uniemo.data.batch import EmotionBatch
from uniemo.metrics.split import first_of_each
from uniemo.models.state import check_scores

AXES = ("valence", "arousal")


class SplitAffect(Metric):
    """CCC and RMSE of valence and of arousal, on the data's scale, over the rated images of a split.

    Where the data has the standard deviations of people's ratings, also the share of images whose prediction lies
    within one of them from the mean rating. Samples that a distributed sampler repeats count once.
    """

    full_state_update = False
    sample_id: list[Tensor]
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        for state in ("sample_id", "rows"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, predicted: Tensor, batch: EmotionBatch) -> None:
        """Add the (B, 2) predictions of a batch, on the data's scale."""
        assert batch.affect is not None  # of data with a scale, as the next one
        assert batch.affect_sd is not None
        self.sample_id.append(batch.sample_id)
        self.rows.append(torch.cat([predicted.float(), batch.affect, batch.affect_sd], dim=1))  # (B, 6)

    def compute(self) -> dict[str, Tensor]:
        """Return ``ccc_<axis>``, ``rmse_<axis>`` and, with deviations, ``within_sd_<axis>``; NaN without two images.

        Raises:
            UniEmoError: predictions that are not finite.
        """
        rows = dim_zero_cat(self.rows)[first_of_each(dim_zero_cat(self.sample_id))]
        check_scores(rows[:, :2].isfinite().all(dim=1), "valence and arousal")
        predicted, rated, deviation = rows[rows[:, 2:4].isfinite().all(dim=1)].split(2, dim=1)  # (N, 2) each
        values = {"ccc": predicted.new_full((2,), torch.nan), "rmse": predicted.new_full((2,), torch.nan)}
        if len(predicted) > 1:
            values["ccc"] = concordance_corrcoef(predicted, rated)
            values["rmse"] = mean_squared_error(predicted, rated, squared=False, num_outputs=2)
            if deviation.isfinite().all():
                values["within_sd"] = ((predicted - rated).abs() <= deviation).float().mean(dim=0)
        return {f"{name}_{axis}": value[place] for name, value in values.items() for place, axis in enumerate(AXES)}
