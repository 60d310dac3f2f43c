"""`distill serve`: a page on this machine that shows what runs find in the images that are dropped on it."""
