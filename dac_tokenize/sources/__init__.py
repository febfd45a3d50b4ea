"""Inputs given by a user to references, in a stable order."""

from dac_tokenize.sources.listing import Listing, list_references
from dac_tokenize.sources.shipped import shipped_sounds
from dac_tokenize.sources.suffixes import AUDIO_SUFFIXES

__all__ = ["AUDIO_SUFFIXES", "Listing", "list_references", "shipped_sounds"]
