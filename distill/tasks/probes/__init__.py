"""Probes during distillation: simple classifiers fitted to features of labelled images (`model.probes`)."""
