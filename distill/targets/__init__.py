"""Targets of the student: from a live teacher, or stored."""
