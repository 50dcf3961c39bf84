"""Events without a model: random codes on a text of numbers, and dictionaries on a toy's store."""

import numpy as np
import pytest

from dictlearn.events._parts import Found
from dictlearn.events.writer import Job

S, T, F, PARTS = 40, 8, 50, 5


@pytest.fixture(scope="session")
def dense_UF():
    """Codes of S * T tokens, the first of a sequence without any; latent 7 never fires, latent 9 on all."""
    random = np.random.default_rng(0)
    codes_UF = random.exponential(size=(S * T, F)).astype(np.float32)
    codes_UF *= random.random((S * T, F)) < 0.1
    codes_UF[:, 7], codes_UF[:, 9] = 0, random.integers(1, 4, size=S * T)
    codes_UF[::T] = 0
    return codes_UF


def job(codes_UF, before=lambda part: None):
    """The job that caches dense codes, in `PARTS` parts of several pieces each."""
    tokens_ST = np.arange(S * T, dtype=np.int32).reshape(S, T) % 11

    def found(chosen):
        for part in chosen:
            before(part)
            for place_P in np.array_split(np.arange(S * T).reshape(PARTS, -1)[part], 3):
                row_E, latent_E = np.nonzero(codes_UF[place_P])
                val_E = codes_UF[place_P][row_E, latent_E]
                yield part, Found(latent_E.astype(np.int32), place_P[row_E], val_E)

    mask_ST = np.arange(T)[None].repeat(S, 0) > 0
    return Job({"codes": float(codes_UF.sum())}, F, PARTS, tokens_ST, mask_ST, found)


@pytest.fixture(scope="session")
def job_of(dense_UF):
    """The job of these codes, or of others."""
    return lambda codes_UF=dense_UF, before=lambda part: None: job(codes_UF, before)
