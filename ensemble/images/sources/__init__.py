"""How is each kind of image source listed and decoded? One file a kind."""
