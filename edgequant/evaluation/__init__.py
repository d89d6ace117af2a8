"""Answers and accuracy: data sets, prompts, the mirror, generation, grading, matching."""
