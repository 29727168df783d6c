"""`ensemble table import`: how do predictions that were computed elsewhere become a run to search?"""
