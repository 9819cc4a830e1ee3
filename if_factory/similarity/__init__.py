"""Comparing texts with each other: near-duplicates and contamination."""
