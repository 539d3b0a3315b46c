"""The kernels of a transformer: one `.cu` file a task, and beside it the Python that calls it."""
