"""Eight host devices for every test, and shape annotations checked as the code runs."""

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)

CHECKED = ("lm", "meters", "normalise", "objectives", "ops", "streams")
install_import_hook([f"dictlearn.{name}" for name in CHECKED], "beartype.beartype")
