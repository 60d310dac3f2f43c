"""One recipe with other values and seeds: a run for each, then one table."""
