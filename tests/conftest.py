"""Eight host devices for every test, shape annotations checked as the code runs, and one cache of compiled
programs. All workers, the processes that tests start, and the next run share it, because many tests compile the
same programs. NumPy multiplies on one thread: on a busy machine the threads of small products spin longer than
they work. XLA's machine code is not optimised, except for the tests of LONG, at the first level. Most of a
test's time goes into compiling, and optimised code would not save as much.

Tests go to workers by group: tests of a conformance suite by member, all others by file. After a group, its
caches are dropped, and its compiled programs if the worker is large; otherwise it would grow by gigabytes.
Programs are lowered in one context of MLIR (tests/lowering.py). Tests named in SLOW are marked `slow`."""

import contextlib
import ctypes
import gc
import os
from importlib import metadata
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1 --xla_cpu_parallel_codegen_split_count=1",
)
if metadata.version("jaxlib").startswith("0.10."):
    # The emitters take half of a compilation. Later versions have no others, and refuse unknown flags.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import jax
import jaxtyping
import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests import lowering, typecheck

TESTS = Path(__file__).parent
PROGRAMS = os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(TESTS.parent / ".cache" / "programs")
)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", PROGRAMS)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)

lowering.share_contexts()

CHECKED = (
    "dictionaries",
    "learners",
    "lm",
    "meters",
    "normalise",
    "objectives",
    "ops",
    "rules",
    "streams",
)
jaxtyping.install_import_hook(
    [f"dictlearn.{name}" for name in CHECKED], f"{typecheck.__name__}.check"
)

ENOUGH, MORE = 1.5 * 2**30, 0.4 * 2**30
"""Bytes of a worker from which on the programs of a group are let go after it; and by how many it grows before
that happens again: the system does not get all of them back."""

LONG = (
    "planted/",
    "rules/test_conformance.py",
    "test_csr.py",
    "test_planted.py",
    "test_quickstart.py",
    "test_train.py",
)
"""Tests whose many steps take longer than compiling them: their programs, and those of the processes that they
start, are optimised. But for conformance, shapes are not checked at each of their many calls."""

TOGETHER = ("analyses/test_conformance.py",)
"""Conformance suites whose members look at the same trained runs, which two workers would each train."""

LIMIT = pytest.StashKey[float]()

SLOW = (
    "analyses/",
    "circuits/",
    "cli/",
    "crash/",
    "dictionaries/",
    "fuzz/",
    "launch/",
    "ops/pursuit/",
    "ops/sparse/",
    "plan/",
    "planted/",
    "suites/",
    "events/test_cache_processes.py",
    "interop/test_conformance.py",
    "interop/test_continue.py",
    "interop/test_malicious.py",
    "learners/test_conformance.py",
    "learners/test_gradient.py",
    "learners/test_itda.py",
    "lm/test_conformance.py",
    "lm/test_decoder.py",
    "lm/test_generate.py",
    "lm/test_load.py",
    "lm/test_parity.py",
    "lm/test_scale.py",
    "report/test_browser.py",
    "report/test_features.py",
    "report/test_graphs.py",
    "report/test_page.py",
    "report/test_serve.py",
    "rules/test_adapt_bias.py",
    "rules/test_conformance.py",
    "rules/test_optax.py",
    "rules/test_revival.py",
    "runs/test_checkpoint_processes.py",
    "runs/test_configs_survive.py",
    "runs/test_pursuit_encoder.py",
    "runs/test_tied.py",
    "scaling/test_summary.py",
    "steering/",
    "streams/test_conformance.py",
    "streams/test_harvest_processes.py",
    "test_csr.py",
    "test_end_to_end.py",
    "test_grids.py",
    "test_meshes.py",
    "test_planted.py",
    "test_quickstart.py",
    "test_readme.py",
    "test_recommended.py",
    "test_skip.py",
    "test_train.py",
)
"""Folders and files of tests that train to convergence, start processes or compare whole language models."""


def group(nodeid: str) -> str:
    """What goes to one worker together: of a conformance suite, the tests whose ids begin with one member."""
    file, _, test = nodeid.partition("::")
    if not file.endswith("test_conformance.py") or file.endswith(TOGETHER) or "[" not in test:
        return file
    return f"{file}[{test.partition('[')[2].rstrip(']').partition('-')[0]}]"


class Groups(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Groups:
    return Groups(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order: dict[str, int] = {}
    for item in items:
        file = item.path.relative_to(TESTS).as_posix()
        order.setdefault(item.nodeid.partition("::")[0], len(order))
        order.setdefault(group(item.nodeid), len(order))
        if file.startswith(SLOW) or file.endswith(("_experiments.py", "_drop_in.py")):
            item.add_marker(pytest.mark.slow)
    # What takes long comes first: else one worker ends with it while the other has nothing left.
    quick = lambda item: item.get_closest_marker("slow") is None
    items.sort(key=lambda item: (quick(item), order[group(item.nodeid)]))


def pytest_collection_finish() -> None:
    """What is imported stays: searching it for garbage, again and again, would take a twentieth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def give_back_memory() -> None:
    """To the system, which the allocator of glibc does not do by itself; another has no such function."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    optimised = item.path.relative_to(TESTS).as_posix().startswith(LONG)
    jax.config.update("jax_disable_most_optimizations", not optimised)
    conforms = item.path.name == "test_conformance.py"
    jaxtyping.config.update("jaxtyping_disable", optimised and not conforms)
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "0" if optimised else "1"


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Function, nextitem: pytest.Item | None) -> None:
    if nextitem is not None and group(item.nodeid) == group(nextitem.nodeid):
        return
    for kept in vars(item.module).values():
        if hasattr(kept, "cache_clear"):
            kept.cache_clear()
    if psutil.Process().memory_info().rss > item.config.stash.get(LIMIT, ENOUGH):
        jax.clear_caches()
        gc.collect()
        give_back_memory()
        item.config.stash[LIMIT] = psutil.Process().memory_info().rss + MORE
