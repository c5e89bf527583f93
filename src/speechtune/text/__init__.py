"""Transcripts: normalisation, vocabularies, phonemes, languages."""
