"""The nearest row by angle, and whose label counts."""

import numpy as np

from dictlearn.analyses.retrieval import accuracy


def test_accuracy_is_that_of_the_nearest_by_angle():
    rows = np.array([[1, 0], [0, 1], [9, 1], [1, 8], [1, 9], [5, 4]], float)
    topic, article = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 1, 2, 3, 3, 4])
    assert accuracy(rows, topic, article, 2) == {"class": 0.5, "group": 1.0}
