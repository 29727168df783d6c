"""How does a member turn a shard of images into predictions, and at what cost?"""
