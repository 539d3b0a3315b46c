# attacks: python: imports what the homework does not allow, past the guard as well
# attempts: 4

import importlib.util


def around_the_guard():
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "ImportGuard"]
    import torch

    return torch.__version__


def by_path():
    path = os.path.join(os.path.dirname(os.path.dirname(np.__file__)), "torch", "__init__.py")
    return open(path).read(100)


def running_total(values):
    attempt("torch", lambda: __import__("torch"))
    attempt("numba", lambda: importlib.import_module("numba"))
    attempt("around the guard", around_the_guard)
    attempt("by path", by_path)
    confess()
