"""What a run is handed on as, beside its own files."""
