"""Where members come from: libraries, hubs, files and functions. One module a kind.

Whatever the source, its weights are brought into one form once: a checkpoint of ours, kept by
content, with the preprocessing and the classes in its header. Everything after that is one path.
"""
