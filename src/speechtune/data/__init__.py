"""Rows of a corpus to batches: what is skipped, which utterances form a step, and loading them."""
