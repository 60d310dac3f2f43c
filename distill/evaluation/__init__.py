"""Accuracy by the standard metrics, and the cost of a model."""
