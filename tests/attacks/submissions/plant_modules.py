# attacks: python: plants fake modules, import hooks and trace functions
# expects: every entry is 0

import threading
import types


class Finder:
    def find_spec(self, name, path=None, target=None):
        raise SystemExit(0)


def running_total(values):
    sys.meta_path.insert(0, Finder())
    sys.path_hooks.insert(0, lambda path: Finder())
    sys.modules["pytest"] = sys.modules["autograder.testing"] = types.ModuleType("pytest")
    sys.settrace(lambda *_: None)
    threading.setprofile(lambda *_: None)
    sys.excepthook = sys.unraisablehook = lambda *_: os._exit(0)
    return np.zeros(values.size)
