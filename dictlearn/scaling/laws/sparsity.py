"""L(k), of the number of active latents at one width: a power law that ends at what sparsity does not cost.

Source: Gao et al. 2024, section 3.2, whose joint law is nearly a power of k at one n.
"""

from dictlearn.scaling.law import power_law

sparsity = power_law(
    "sparsity",
    "k",
    "k",
    fixed=("n", "tokens"),
    example={"log_floor": -2.3, "log_scale": -0.3, "exponent": 0.4},
)
