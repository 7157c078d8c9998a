"""Run folders: checkpoints, settings and exports."""
