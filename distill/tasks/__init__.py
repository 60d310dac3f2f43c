"""What is trained: distillation, instances, segmentation."""
