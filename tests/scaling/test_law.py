"""Published laws take their published values; a nested law is the joint law with parts gone."""

import numpy as np
import pytest

from dictlearn.scaling import laws
from dictlearn.scaling.law import log_loss, start_grid

JOINT, COMPUTE = laws.make("joint"), laws.make("compute")
GPT4, GPT4_COMPUTE = (list(law.example.values()) for law in (JOINT, COMPUTE))


@pytest.mark.parametrize(
    ("n", "k", "loss"),
    [
        (2048, 8, 0.69393),
        (131072, 32, 0.41890),
        (1e6, 32, 0.35703),
        (2**24, 128, 0.23126),
        (1e5, 512, 0.28085),
        (2**23, 32, 0.31083),
    ],
)
def test_the_joint_law_of_gpt4_takes_its_published_values(n, k, loss):
    predicted = np.exp(log_loss(JOINT, GPT4, {"n": [n], "k": [k]}))
    np.testing.assert_allclose(predicted, loss, atol=5e-6)


@pytest.mark.parametrize(("compute", "loss"), [(1, 0.146), (0.1, 0.15795), (1e-3, 0.19004)])
def test_the_compute_law_of_gpt4_takes_its_published_values(compute, loss):
    predicted = np.exp(log_loss(COMPUTE, GPT4_COMPUTE, {"compute": [compute]}))
    np.testing.assert_allclose(predicted, loss, atol=5e-6)


def test_the_joint_law_is_its_equation():
    n, k = np.array([300.0, 4e4]), np.array([7.0, 90.0])
    a, bk, bn, g, z, e = GPT4
    by_hand = np.exp(a + bk * np.log(k) + bn * np.log(n) + g * np.log(k) * np.log(n))
    by_hand += np.exp(z + e * np.log(k))
    predicted = np.exp(log_loss(JOINT, GPT4, {"n": n, "k": k}))
    np.testing.assert_allclose(predicted, by_hand, rtol=1e-12)


@pytest.mark.parametrize("nested", JOINT.nested, ids=lambda law: law.name)
def test_a_nested_law_is_the_joint_law_with_its_missing_parameters_at_their_neutral_value(nested):
    inputs = {"n": [300.0, 4e4], "k": [7.0, 90.0]}
    theta = [JOINT.example[name] for name in nested.parameters]
    absent = {"gamma": 0.0, "eta": 0.0, "zeta": -1e3}
    full = {**JOINT.example} | {p: v for p, v in absent.items() if p not in nested.parameters}
    joint = [full[name] for name in JOINT.parameters]
    np.testing.assert_allclose(
        log_loss(nested, theta, inputs), log_loss(JOINT, joint, inputs), rtol=1e-12
    )


def test_many_parameter_vectors_are_evaluated_at_once():
    inputs = {"n": [300.0, 4e4, 9e5], "k": [7.0, 90.0, 12.0]}
    many = np.stack([GPT4, np.zeros(6)])
    together = log_loss(JOINT, many, inputs)
    assert together.shape == (2, 3)
    np.testing.assert_allclose(together[0], log_loss(JOINT, GPT4, inputs))


def test_the_joint_law_and_the_compute_law_start_from_at_least_64_points():
    assert start_grid(JOINT).shape == (64, 6)
    assert start_grid(COMPUTE).shape == (64, 3)
