"""A cluster's files: pure functions from what is wanted to texts; nothing here starts or asks anything."""

from twin_actors.cli.rendering.wanted import Cluster, File

__all__ = ["Cluster", "File"]
