"""Labelled texts in files of your own: JSON lines, CSV or Parquet (tasks/_files.py)."""

from dictlearn.tasks._files import read as file

__all__ = ["file"]
