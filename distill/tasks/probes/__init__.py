"""Quality while distilling: images with labels, on whose features simple classifiers are fitted (`model.probes`)."""
