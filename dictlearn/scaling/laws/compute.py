"""L(C), of the FLOPs of training at one k: a power law over the runs that no cheaper run beats.

The runs are trainings of different widths and lengths. Those that a run of at most their compute beats are not
of the best width for their compute, and say nothing about this law.

Source: Gao et al. 2024, section 3.1; Hoffmann et al. 2022, section 3.1, for the lower envelope.
"""

import numpy as np

from dictlearn.scaling.law import power_law

compute = power_law(
    "compute",
    "C",
    "compute",
    fixed=("k",),
    frontier=True,
    example={
        "log_floor": float(np.log(0.09)),
        "log_scale": float(np.log(0.056)),
        "exponent": 0.084,
    },
)
"""The example is as published for GPT-4, with C as a fraction of its pre-training."""
