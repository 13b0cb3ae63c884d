"""Replaying drives and measuring what was recognised."""
