"""Maps on disk."""
