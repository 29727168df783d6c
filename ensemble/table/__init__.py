"""The logit table: what every member said of every image, durable and joined by image id."""
