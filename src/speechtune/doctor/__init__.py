"""Check a corpus before training."""
