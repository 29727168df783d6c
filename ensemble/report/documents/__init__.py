"""Documents: what report.json and search-report.json hold, as values without arrays."""
