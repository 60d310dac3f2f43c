"""Loss terms, combined by name in a recipe."""
