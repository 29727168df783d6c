"""Entry points, one page each. They parse, call the library and the cluster, and print."""
