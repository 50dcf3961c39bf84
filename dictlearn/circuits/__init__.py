"""Circuits: dictionaries in the computation of a model: attention heads, replacement models."""
