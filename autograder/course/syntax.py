"""Whether submitted Python compiles: asked of a short-lived process, since a parser can crash.

Compiling runs none of the code. Deep nesting, huge constants and the like can still exhaust the
stack or the memory of the process that compiles, so that process is not the grader's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping

from autograder.course.unpack import shown

_SECONDS = 10
_MEMORY_BYTES = 1 << 30

# Runs in the child. Reports each file as soon as it is judged: what is missing at the end crashed.
_CHILD = f"""
import json, sys, warnings
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, ({_SECONDS}, {_SECONDS}))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY_BYTES}, {_MEMORY_BYTES}))
except (ImportError, OSError, ValueError):
    pass
warnings.simplefilter("ignore")
for name, text in json.load(sys.stdin).items():
    line, message = 0, ""
    try:
        compile(text, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        line, message = error.lineno or 1, type(error).__name__ + ": " + str(error.msg)
    except (RecursionError, MemoryError):
        line, message = 1, "nested too deeply, or too large, to be compiled"
    except (ValueError, OverflowError) as error:
        line, message = 1, type(error).__name__ + ": " + str(error)
    print(json.dumps([name, line, message]), flush=True)
"""


def syntax_problems(files: Mapping[str, bytes]) -> list[str]:
    """`FILE:LINE: what is wrong` for every .py file that does not compile; costs about 30 ms."""
    sources = {name: data for name, data in files.items() if name.endswith(".py")}
    waiting = {name: data.decode("utf-8", "replace") for name, data in sources.items()}
    notes = []
    while waiting:
        judged = _judge(waiting)
        for name, line, message in judged:
            waiting.pop(name, None)
            if message:
                notes.append(f"{name}:{line}: {shown(message)}")
        if waiting:  # the child died at the first file that it did not report
            name = next(iter(waiting))
            waiting.pop(name)
            notes.append(f"{name}:1: could not be compiled: the compiler crashed or took too long")
    return notes


def _judge(files: Mapping[str, str]) -> list[tuple[str, int, str]]:
    """What one child process said of the files before it ended; its output is bounded by them."""
    command = [sys.executable, "-I", "-S", "-c", _CHILD]
    try:
        result = subprocess.run(
            command,
            input=json.dumps(dict(files)).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=2 * _SECONDS,
            env={},
            check=False,
        )
        output = result.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    judged = []
    for line in output.splitlines():
        try:
            name, number, message = json.loads(line)
        except ValueError:  # cut off by the end of the process
            break
        judged.append((str(name), int(number), str(message)))
    return judged
