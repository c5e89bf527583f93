"""Build and run a plan: train, evaluate, save. And the Python API."""
