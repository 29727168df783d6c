"""The jobs behind the verbs of `ensemble`: each puts the library and the cluster together for one purpose."""
