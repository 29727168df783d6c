"""Reports: what a run or a search found, as JSON and as one HTML page made from the JSON alone.

`documents` says what the JSON holds, `build` makes it from findings, `pages` draws it.
"""
