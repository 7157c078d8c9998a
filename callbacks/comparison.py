"""Prints the closing table of a test."""

from __future__ import annotations

from lightning.pytorch import Callback, LightningModule, Trainer

from wand.data.datamodule import SpeechDataModule
from wand.evaluation.comparison import Row, show
from wand.evaluation.cost import cache_bytes, step_milliseconds
from wand.module import WandModule


class ComparisonTable(Callback):
    """At the end of a test: quality and cost of teacher, untrained window and student.

    Args:
        seconds: Lengths of speech at which the cache is counted.
        columns: Speech columns after which a step is timed.
    """

    def __init__(self, seconds: tuple[float, ...] = (4, 60), columns: tuple[int, ...] = (200, 3000)) -> None:
        self.seconds = seconds
        self.columns = columns
        self.rows: list[Row] = []

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure costs, on one rank, and print."""
        if not trainer.is_global_zero:
            return
        assert isinstance(pl_module, WandModule)
        self.rows = self._measure(trainer, pl_module)
        show(self.rows)

    def _measure(self, trainer: Trainer, module: WandModule) -> list[Row]:
        data = getattr(trainer, "datamodule", None)
        assert isinstance(data, SpeechDataModule)
        conditioner = module.backbone.conditioner
        lengths = sorted(conditioner.length(e.conditioning) for e in data.examples["test"])
        prefix = lengths[len(lengths) // 2]
        windows = {name: None if name == "teacher" else module.final_window.size for name in module.systems}
        distinct = list(dict.fromkeys(windows.values()))
        times = {
            n: dict(zip(distinct, step_milliseconds(module.backbone, prefix, n, distinct), strict=True))
            for n in self.columns
        }
        rows = []
        for system, window in windows.items():
            means = {
                k.split("/")[-1]: float(v)
                for k, v in trainer.callback_metrics.items()
                if k.startswith(f"test/{system}/")
            }
            rows.append(
                Row(
                    system=system,
                    window=window,
                    ce=means["ce"],
                    agreement=means.get("agreement"),
                    kl=means.get("kl"),
                    kv_bytes={s: cache_bytes(module.backbone, prefix, s, window) for s in self.seconds},
                    step_ms={n: times[n][window] for n in self.columns},
                )
            )
        return rows
