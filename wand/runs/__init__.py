"""Run folders: checkpoints, settings, exports."""
