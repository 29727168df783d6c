"""ensemble/report/documents."""
