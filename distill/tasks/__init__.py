"""Tasks: distillation, instance segmentation, semantic segmentation, masked autoencoding."""
