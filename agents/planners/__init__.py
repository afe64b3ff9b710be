"""Planners: searches for the actions that cost least."""
