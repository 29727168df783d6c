"""The `ensemble` command, one file for each group of verbs: words in, text out, and no work of their own."""
