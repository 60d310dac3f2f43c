"""What was gained and what it costs: accuracy by the standard metrics, and the price of a model."""
