"""Runs on disk: checkpoints, workdirs, trained dictionaries, and functions Trained -> Trained."""
