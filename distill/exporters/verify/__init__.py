"""Checks an exported file against its run: the images that are compared, and the tolerances."""
