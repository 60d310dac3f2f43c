"""What a run leaves behind: run folder, card, tables, figures, dashboards."""
