"""Eight host devices for every test, shape annotations checked as the code runs, and one cache of compiled
programs for all workers, the processes that tests start, and the next run: many tests compile what another has
compiled. NumPy multiplies on one thread: on a busy
machine the threads of small products spin longer than they work. XLA's machine code is left as it comes: most
of a test's time goes into compiling, and what a test looks at is not what LLVM would have saved."""

import os
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax
from jaxtyping import install_import_hook

PROGRAMS = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "programs")
)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", PROGRAMS)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)

CHECKED = ("lm", "meters", "normalise", "objectives", "ops", "streams")
install_import_hook([f"dictlearn.{name}" for name in CHECKED], "beartype.beartype")
