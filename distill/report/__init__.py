"""Reports of a run: card, tables, figures, dashboards."""
