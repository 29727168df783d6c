"""Building the documents from findings: scores, intervals and examples."""
