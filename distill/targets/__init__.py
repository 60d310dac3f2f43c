"""Where a student's targets come from."""
