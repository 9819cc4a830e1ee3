"""Asking a model what code cannot decide: pairs, criteria, scores, entailment, and how far to trust it."""
