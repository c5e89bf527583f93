"""Upload a trained model to the hub, or export it."""
