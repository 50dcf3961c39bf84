"""GPU kernels in Pallas (Triton), each the equal of a plain-JAX form that is its fallback and its oracle."""
