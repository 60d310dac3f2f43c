"""Runs exported files without PyTorch."""
