"""Sub-classifiers: which classes a member confuses, one network for each, and when it answers.

Label clusters come from `similarity` and `label_clusters`, the gate and the routing from `gates`,
`route` and `choose`; `answers` applies them to a split, and `dry_run` counts what they could gain.

Source: P2 in the README's list of papers.
"""
