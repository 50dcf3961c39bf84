"""The real model, loaded once."""

import pytest

from dictlearn.lm import LM, load


@pytest.fixture(scope="session")
def smollm2() -> LM:
    try:
        return load("smollm2")
    except FileNotFoundError as error:
        pytest.skip(str(error))
