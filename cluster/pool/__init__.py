"""Workers on a Ray cluster: training and prediction, with failed calls made again."""
