"""N-gram language models: counted, estimated, kept as ARPA files, and asked for probabilities."""
