"""numba's on-disk cache inside a worker: one folder a submission, filled once, then only read.

The cache holds pickles, so it is written and read by confined workers only; trusted code never
loads one, and no two submissions share one.
"""

from __future__ import annotations

import contextlib
import sys
import warnings


def use(folder: str, writable: bool) -> None:
    """Let `@njit(cache=True)` read compiled kernels from `folder`, and write them if `writable`.

    Does nothing where numba is not loaded. numba refuses a cache folder that it can't write to;
    here a read-only one is meant, so its check is switched off and failed writes are dropped.
    """
    if "numba" not in sys.modules:
        return
    from numba.core import caching, config

    config.CACHE_DIR = folder
    # A worker has no /dev/shm for the lock between processes, and shares nothing it would protect.
    warnings.filterwarnings("ignore", message="Could not obtain multiprocessing lock")
    if writable:
        return
    caching._CacheLocator.ensure_cache_path = lambda self: None
    save = caching.IndexDataCacheFile.save

    def save_if_possible(self, key, data):  # type: ignore[no-untyped-def]
        with contextlib.suppress(OSError):
            save(self, key, data)

    caching.IndexDataCacheFile.save = save_if_possible
