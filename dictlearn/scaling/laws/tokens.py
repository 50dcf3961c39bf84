"""L(T), of the tokens of training at one width and k: a power law that ends at the loss of endless training.

Each run is a training of its own length with its own decay of the learning rate, never a point on a learning
curve, whose loss before the decay is higher.

Source: Hoffmann et al. 2022, "Training compute-optimal large language models", section 3, for the form in
tokens.
"""

from dictlearn.scaling.law import power_law

tokens = power_law(
    "tokens",
    "T",
    "tokens",
    fixed=("n", "k"),
    example={"log_floor": -1.6, "log_scale": 3.0, "exponent": 0.3},
)
