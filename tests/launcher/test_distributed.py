"""The reason for this launcher: Lightning's ddp inside a multirun, with changing device counts."""

import json
from typing import Any

PROGRAM = """
import os
from pathlib import Path
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(cfg):
    import json
    import pytorch_lightning as pl
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    cell = os.environ["SVP_SWEEP_CELL"][0]

    class Counter(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.seen = torch.zeros(1)

        def test_step(self, batch, batch_index):
            self.seen += len(batch)

        def on_test_epoch_end(self):
            total = self.trainer.strategy.reduce(self.seen, reduce_op="sum")
            if self.trainer.is_global_zero:
                world = self.trainer.world_size
                Path(f"result_{cell}.json").write_text(json.dumps([world, total.item()]))

    trainer = pl.Trainer(
        accelerator="cpu", devices=cfg.devices, strategy="ddp" if cfg.devices > 1 else "auto",
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        use_distributed_sampler=False, enable_model_summary=False)
    rank, world = trainer.global_rank, trainer.world_size
    with open(f"ranks_{cell}.txt", "a") as file:
        file.write(f"{rank}\\n")
    samples = range(101)[rank::world]
    trainer.test(Counter(), DataLoader([torch.zeros(1) for _ in samples], batch_size=10))

if __name__ == "__main__":
    main()
"""


def test_ddp_cells_in_a_multirun_see_every_sample_once_whatever_the_device_counts(
    app: Any,
) -> None:
    (app.folder / "app" / "__main__.py").write_text(PROGRAM)
    # In one process, the second cell would find the ranks of the first in its environment.
    done = app.run("-m", "+devices=2,1", timeout=400)
    assert done.returncode == 0, done.stderr
    results = [json.loads((app.folder / f"result_{number}.json").read_text()) for number in (1, 2)]
    assert results == [[2, 101], [1, 101]]
    ranks = [(app.folder / f"ranks_{number}.txt").read_text().split() for number in (1, 2)]
    assert [sorted(started) for started in ranks] == [["0", "1"], ["0"]]
