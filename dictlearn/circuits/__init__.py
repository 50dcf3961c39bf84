"""Circuits: dictionaries in the computation of a model. Attribution graphs (`attribute`), indirect effects and
feature circuits (`effects`, `features`), interventions, attention heads, replacement models (docs/circuits.md).
"""
