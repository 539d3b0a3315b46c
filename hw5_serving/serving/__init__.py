"""An inference engine: paged cache, continuous batching, compression, retrieval, live updates.

Files are named after what they hold. Those that `assignment.toml` lists are yours to fill in; the
rest is given.
"""
