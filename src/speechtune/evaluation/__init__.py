"""Hypotheses of a split, error rates and their intervals."""
