"""Scaling laws: fitted to runs, doubted, and drawn."""
