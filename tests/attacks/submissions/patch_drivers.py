# attacks: python: replaces the drivers, the neighbour's function and the modules that hold them
# expects: every entry is 0

import types


def running_total(values):
    drivers = sys.modules["hw9_tiny_drivers"]
    drivers.running_total = lambda slot, values: np.zeros(values.size)
    drivers.spread = lambda values: 0.0
    sys.modules["hw9_tiny_drivers"] = sys.modules["tiny.honest"] = types.ModuleType("fake")
    return drivers.running_total(0, values)
