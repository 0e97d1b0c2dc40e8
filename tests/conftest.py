"""One precision a process.

float64, or float32 with JAX_ENABLE_X64=0 from outside. Programs are compiled in haste, or by the
XLA_FLAGS from outside: if those are empty, as for users.
"""

import collections
import contextlib
import ctypes
import gc
import itertools
import os
import zlib
from pathlib import Path

from .haste import xla_flags

os.environ.setdefault("JAX_ENABLE_X64", "1")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
# NumPy's and scikit-learn's threads of two workers wait for each other, 20 times as long
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if not os.environ.get("CI"):  # where nothing is kept, its keys take 5 % of the time
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache/jax")
    )
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
HASTE = os.environ.get("XLA_FLAGS") != ""
if "XLA_FLAGS" not in os.environ:
    os.environ["XLA_FLAGS"] = xla_flags()

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

from vijax import _names  # noqa: E402

gc.set_threshold(100_000, 20, 100)  # tracing makes many objects, and few that gc must find
# memory maps of programs, of which 10,000 go with 2 GB; the next file needs few of them
MOST_MAPS, MOST_MAPS_AFTER_FILE = 25_000, 8_000
# of which every case is run everywhere, as it takes no time
NO_PROGRAMS = {"test_architecture", "test_public_api", "test_notebooks", "test_benchmarks"}
_TESTS = itertools.count()
X64 = bool(jax.config.jax_enable_x64)


def pytest_collection_finish(session):
    """All of vijax is imported here, and not within a test that switches checks of types off.

    What was imported and collected stays, and need not be looked through for garbage.
    """
    _names.import_all()
    gc.freeze()


def pytest_collection_modifyitems(config, items):
    """Where float64 is disabled, run the tests that say they mean something there.

    Compiled as for users, those whose digits may depend on it. On a machine for continuous
    integration, run some cases of each test.
    """

    def wanted(item):
        mark = item.get_closest_marker("float32")
        return X64 or (mark is not None and mark.kwargs.get("hasty", False) == HASTE)

    keep = [item for item in items if wanted(item)]
    keep = some_cases(keep) if os.environ.get("CI") else keep
    kept = set(keep)
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = keep


def some_cases(items):
    """Half of 2 cases of a test, a third of 3 or more, a quarter of 6, and a fifth of 12 or more.

    Which ones is told by the name of the test, so that each model has some of all laws. Tests that
    are marked as long are left out.
    """
    tests = collections.defaultdict(list)
    for item in items:
        tests[item.nodeid.partition("[")[0]].append(item)
    keep = set()
    for name, cases in tests.items():
        each = 1 + sum(len(cases) >= least for least in (2, 3, 6, 12))
        each = 1 if cases[0].path.stem in NO_PROGRAMS else each
        keep.update(cases[zlib.crc32(name.encode()) % each :: each])
    return [item for item in items if item in keep and item.get_closest_marker("long") is None]


@pytest.fixture(autouse=True)
def _strict():
    """A silent promotion of dtype is a float32 user's float64 bug."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Forget programs: thousands of them run out of memory, and of memory maps, and crash."""
    same = nextitem is not None and nextitem.path == item.path
    if same and next(_TESTS) % 8:  # looking takes a while
        return
    if num_maps() > (MOST_MAPS if same else MOST_MAPS_AFTER_FILE):
        jax.clear_caches()
        with contextlib.suppress(OSError, AttributeError):  # glibc keeps what is freed
            ctypes.CDLL("libc.so.6").malloc_trim(0)


def num_maps():
    """The memory maps of this process, of which Linux allows 65530; infinite elsewhere."""
    maps = Path("/proc/self/maps")
    return len(maps.read_bytes().splitlines()) if maps.exists() else float("inf")


@pytest.fixture
def rng(request):
    """NumPy generator whose seed is the test's own name."""
    return np.random.default_rng([ord(c) for c in request.node.name])


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def unchecked():
    """Without jaxtyping's checks, so that arguments of a wrong type meet the library's own."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
