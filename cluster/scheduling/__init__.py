"""Decisions without Ray: which member on which device, which call next, what follows a failure. Pure."""
