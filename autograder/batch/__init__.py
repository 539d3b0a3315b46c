"""Grading as a whole: one submission here, a class in batches, the project's checks of itself."""
