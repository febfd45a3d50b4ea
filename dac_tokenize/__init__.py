"""Audio corpora to DAC tokens."""
