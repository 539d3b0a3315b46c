"""A driver's result, where the kernels behaved; shared by the tests of several tasks."""

from __future__ import annotations

from typing import Any

from autograder.testing import cuda


def checked(student: Any, driver: Any, **arguments: Any) -> dict[str, Any]:
    """What the driver returns, if its report has no race, no bad address and the like.

    Before values are compared: a race is the better explanation of a wrong number.
    """
    result = student.run(driver, **arguments)
    cuda.check(result["report"])
    return result
