"""Recordings of any length to text."""
