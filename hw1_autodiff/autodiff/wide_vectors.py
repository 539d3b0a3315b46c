"""Lets numba use the widest vector registers of the machine. Given.

On Intel servers LLVM keeps to 256 bits although the machine has 512, because the first ones to have
them lowered their clock for it. Arithmetic-bound kernels lose half their speed to that. Importing
this module before anything is compiled takes the preference back; elsewhere it does nothing.
"""

from __future__ import annotations

import os
import platform

from llvmlite import binding
from numba.core import config

if (
    platform.machine() in ("x86_64", "AMD64")
    and not {"NUMBA_CPU_FEATURES", "NUMBA_CPU_NAME"} & set(os.environ)
    and binding.get_host_cpu_features().get("avx512f", False)
):
    config.CPU_FEATURES = binding.get_host_cpu_features().flatten() + ",-prefer-256-bit"
