"""The sound that ships inside the package."""

from pathlib import Path


def shipped_sounds() -> str:
    """Gives the folder of the shipped sounds: about a minute of speech and music, CC0."""
    return str(Path(__file__).parent.parent / "sounds")
