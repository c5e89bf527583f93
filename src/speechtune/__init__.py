"""Fine-tune any pretrained speech model on any speech corpus, say honestly how well it recognises, and put it to work.

Nothing is imported here, so that `speechtune --help` answers at once; docs/architecture.md has the map.
"""
