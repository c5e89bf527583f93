"""CTC models, and MMS adapters."""
