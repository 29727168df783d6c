"""`ensemble summary`: what do runs that differ in their seed say together?"""
