"""Exports of an artifact for other tools, each checked by what it answers to the golden inputs."""
