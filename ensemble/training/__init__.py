"""How is a network trained, and how does a training go on after an interruption?"""
