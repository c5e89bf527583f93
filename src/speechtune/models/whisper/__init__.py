"""What only Whisper has: its input, prompt, context, and a cache of its encoder."""
