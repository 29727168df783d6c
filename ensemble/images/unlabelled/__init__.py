"""Unlabelled images in any number: listed lazily and in a fixed order, decoded one by one."""
