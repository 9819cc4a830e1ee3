"""Judging and comparing texts: the judge, its calibration, near-duplicates."""
