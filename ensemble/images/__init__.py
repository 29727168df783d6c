"""Where images come from, how they are split, and how they become shards. Nothing here knows a network."""
