"""Trainings of a recipe: planned, started, watched, judged, and evaluated."""
