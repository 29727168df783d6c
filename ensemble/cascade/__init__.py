"""Cascades: members one after the other, and an image stops where the ensemble is sure enough."""
