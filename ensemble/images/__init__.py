"""Which labelled images are there, how are they split, and how do they become shards of pixels?"""
