"""Minima along lines of equal compute are powers of it, and a line without an inner minimum gives none."""

import numpy as np
import pytest

from dictlearn.scaling.isoflop import isoflop

A, B = 0.3, 0.4


def grid(factors):
    """Runs of L = n^-A + T^-B at these factors of the best n, along five lines of equal n T."""
    n, tokens = [], []
    for compute in np.geomspace(1e9, 1e13, 5):
        best = (A / B) ** (1 / (A + B)) * compute ** (B / (A + B))
        n.append(best * factors)
        tokens.append(compute / n[-1])
    inputs = {"n": np.concatenate(n), "tokens": np.concatenate(tokens)}
    return inputs, inputs["n"] ** -A + inputs["tokens"] ** -B


def test_seven_widths_on_each_line_give_the_exponents():
    found = isoflop(*grid(np.geomspace(0.25, 4, 7)))
    assert len(found["minima"]) == 5
    assert found["best_n_exponent"] == pytest.approx(B / (A + B), abs=1e-3)
    assert found["best_tokens_exponent"] == pytest.approx(A / (A + B), abs=1e-3)
    for one in found["minima"]:
        assert one["n_latents"] * one["tokens"] == pytest.approx(one["n_times_tokens"])


def test_a_line_without_a_minimum_between_its_ends_has_none():
    nothing = {"minima": [], "best_n_exponent": None, "best_tokens_exponent": None}
    assert isoflop(*grid(np.geomspace(4, 64, 7))) == nothing
    assert isoflop(*grid(np.geomspace(0.25, 4, 3))) == nothing
