"""From the words of a user to a recipe that can be run: found, composed, checked."""
