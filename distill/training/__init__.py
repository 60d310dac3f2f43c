"""Optimizer and schedule, weight averaging, precision, and checks of each step."""
