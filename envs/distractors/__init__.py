"""Backgrounds that have nothing to do with the agent: where their pixels come from, and how they change."""
