"""Does an exported file find what the run finds? On which images that is asked, and what may differ."""
