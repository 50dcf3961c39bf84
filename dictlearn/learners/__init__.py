"""Learners: dictionary-learning algorithms as folds over a stream, one file each."""
