"""Transducers: an encoder, a network over the labels so far, and a joint network over both."""
