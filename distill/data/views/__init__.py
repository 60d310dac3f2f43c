"""Geometric and photometric readings of images, and of what is labelled in them."""
