"""Probes of frozen features: simple classifiers on features and labels, and how balanced their accuracy is."""
