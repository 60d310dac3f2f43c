"""Formats of other frameworks that a run is exported to."""
