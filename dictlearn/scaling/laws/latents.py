"""L(n), of the number of latents at one k: a power law that ends at what width does not remove.

Source: Gao et al. 2024, section 3.1; Engels et al. 2024, "Decomposing the dark matter of sparse autoencoders",
whose fraction of variance unexplained against width has this form.
"""

from dictlearn.scaling.law import power_law

latents = power_law(
    "latents",
    "n",
    "n",
    fixed=("k", "tokens"),
    example={"log_floor": -1.4, "log_scale": 0.3, "exponent": 0.16},
)
"""The example is near GPT-4's joint law at k = 32."""
