"""Speech and text on their way to batches: sources, shards, batching by length, the LightningDataModule."""
