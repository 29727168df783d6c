"""Which log-probabilities did each member give each image? Durable, and joined by image id."""
