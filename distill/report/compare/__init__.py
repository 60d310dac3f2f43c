"""Runs compared: a row for each student, a section for each task and data set, as tables, files and one page."""
