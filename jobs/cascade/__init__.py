"""`ensemble cascade`: in which order may members answer, and when may an image stop?"""
