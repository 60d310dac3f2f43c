"""Conversion, verification and preview of data sets. Training does not import this package."""
