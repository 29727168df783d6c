"""Does the main path work on a GPU, and how near does it come to what the GPU can do?"""
