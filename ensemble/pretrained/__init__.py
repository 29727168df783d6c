"""How do weights from libraries, hubs, files and functions become members? One module for each kind.

Whatever the source, its weights are brought into one form once: a checkpoint of this project, kept by
content, with the preprocessing and the classes in its header. Everything after that is one path.
"""
