"""Audio files: decode, read durations, and cache decoded samples."""
