"""The synthetic corpus of `speechtune demo`, and its small base model."""
