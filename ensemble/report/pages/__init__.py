"""ensemble/report/pages."""
