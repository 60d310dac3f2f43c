"""From command-line arguments to a recipe that can be run: found, composed, checked."""
