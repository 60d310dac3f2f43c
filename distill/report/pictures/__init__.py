"""Pictures that a run stores of a few images: what the model sees, what is true, and what it says."""
