"""Backends that run a network and give descriptors."""
