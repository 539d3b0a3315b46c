"""No drivers: what torch imports at the first use of an optimizer or of `backward` with a gradient.

The zygote loads every drivers module before it forks workers. Without this, each worker that trains
would import torch's compiler for itself, two seconds a test, and meet the import guard on the way
(sympy, which torch needs, is none of the packages that a homework may import).
"""

from __future__ import annotations

import torch._dynamo
import torch.fx.experimental.symbolic_shapes  # noqa: F401
