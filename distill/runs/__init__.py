"""A run while it goes on, and the folder that it leaves."""
