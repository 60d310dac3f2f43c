"""One teacher feature matched by one of the student's maps: projection, statistics, losses, scale."""
