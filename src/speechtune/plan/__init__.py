"""`Options` to `RunPlan`: every default and fallback is decided here, once."""
