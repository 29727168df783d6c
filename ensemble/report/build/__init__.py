"""ensemble/report/build."""
