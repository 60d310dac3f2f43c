"""Scenes drawn from a seed, for the demo and for tests."""
