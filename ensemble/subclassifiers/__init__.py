"""Sub-classifiers over label clusters: who is confused with whom, one network for each, and when to ask it.

Source: P2 in the README's list of papers.
"""
