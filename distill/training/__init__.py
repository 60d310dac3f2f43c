"""Optimizing: schedule, averages, precision, and what is checked at each step."""
