"""Figures about speed and size, each printed by one command; `NOTES.md` says what did not pay."""
