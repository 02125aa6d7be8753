"""The smallest training, for tests of data modules and loaders."""

import lightning as L
import torch


class Probe(L.LightningModule):
    """Train one number on the images' brightness; keep the ids of each training batch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch):
        self.seen.append(batch.sample_id.tolist())
        return self.weight * batch.images.mean()

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(root, **changes):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(
        **{"max_epochs": 1, "enable_model_summary": False, "default_root_dir": root, "accelerator": "cpu"}
        | quiet
        | changes
    )
