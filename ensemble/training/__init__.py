"""How a network is trained and kept: recipe, schedule, augmentation, loop, checkpoint."""
