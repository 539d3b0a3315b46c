"""Where BLAS is forbidden, no routine of the library can be called, by whatever name it goes."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import resource
import signal
import sys

import numpy as np
import pytest

from autograder.sandbox import blas_guard
from tests.sandbox.worker_samples import *  # noqa: F403  the fixtures

pytestmark = pytest.mark.skipif(
    not (sys.platform == "linux" and blas_guard.blas_libraries()),
    reason="numpy's BLAS is a library of its own on Linux only",
)
# What may stand before and behind a routine's name: interface, type, variant, processor.
ROUTINES = ["gemm", "gemv", "trsm", "trmm", "trmv", "symm", "symv", "syrk", "syr2", "hemm", "hemv",
            "herk", "her2", "ger", "dot", "axpy"]  # fmt: skip
FORMS = {
    "a Fortran name": r"^(scipy_)?[sdcz]{}\w{{0,2}}?_(64_)?$",
    "a C name": r"^(scipy_)?cblas_[sdcz]{}",
    "a driver": r"^[sdcz]{}_[a-zA-Z]{{1,4}}$",
    "a thread's part": r"^[sdcz]{}_thread",
    "a kernel": r"^[sdcz]{}\w*_(kernel|k|n|t|U|L)_?\w*_?[A-Z]{{5,}}",
}
KNOWN = ["sgemm_nn", "scipy_cblas_sgemm_batch64_", "scipy_sgemm_64_", "sgemm_small_kernel_nn_HASWELL"]


def exported() -> dict[str, tuple[str, int]]:
    """Every function of the BLAS libraries here: name -> library and address in its file."""
    found = {}
    for path in blas_guard.blas_libraries():
        with open(path, "rb") as file:
            for name, place in blas_guard.exported_functions(file.read()):
                found[name.decode()] = (path, place)
    return found


def endings(names: list[str], engage: bool) -> dict[str, int]:
    """The signal that a call of each routine, without arguments, ends a process of its own with."""
    found = {}
    for name in names:
        pid = os.fork()
        if pid == 0:
            try:
                faulthandler.disable()
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                signal.alarm(10)
                if engage:
                    blas_guard.engage()
                path, _ = exported_here[name]
                getattr(ctypes.CDLL(path), name)()
            finally:
                os._exit(0)
        status = os.waitpid(pid, 0)[1]
        found[name] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return found


exported_here = exported() if sys.platform == "linux" else {}


@pytest.mark.parametrize("routine", ROUTINES)
def test_every_form_of_a_routine_ends_in_sigill(routine):
    """Interfaces, drivers, threads' parts and the kernels for each kind of processor."""
    chosen = []
    for pattern in FORMS.values():
        fitting = sorted(n for n in exported_here if re.search(pattern.format(routine), n))
        chosen += fitting[:: max(1, len(fitting) // 3)][:3]
    assert chosen, f"the library exports nothing like {routine}"
    assert {n: e for n, e in endings(chosen, True).items() if e != signal.SIGILL} == {}


def test_routines_that_a_red_team_found_end_in_sigill():
    """Where the library has them; the list of names the guard once had lacked each."""
    names = [name for name in KNOWN if name in exported_here]
    if not names:
        pytest.skip("this build exports none of them")
    assert set(endings(names, True).values()) == {signal.SIGILL}
    # Without the guard the same call does not end so: it is the guard that this test sees.
    assert signal.SIGILL not in endings(names[:1], False).values()


def test_what_is_no_product_still_works():
    assert endings(["openblas_get_num_threads64_"], True) == {"openblas_get_num_threads64_": 0} or (
        "openblas_get_num_threads64_" not in exported_here
    )


def test_the_table_is_made_once_by_the_zygote(sandbox):
    """A worker finds it there: reading the library again costs each test a tenth of a second."""
    seen = []
    for _ in range(2):
        with sandbox.worker() as worker:
            seen.append(
                worker.call("the_drivers:call", {"function": "guard_table"}, forbid_blas=True)
            )
    assert seen[0] == seen[1]
    found, made = seen[0]  # found by the worker, made by the zygote: one for each library it has
    assert found == made >= 1


def test_a_file_that_is_no_library_has_no_routines():
    assert blas_guard.routine_offsets(b"#!/bin/sh\n").tolist() == []
    assert blas_guard.routine_offsets(b"").dtype == np.int64
