"""Fitting, validating and testing from a recipe: what the command line and Python call."""
