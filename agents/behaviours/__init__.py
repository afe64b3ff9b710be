"""Behaviours: the policies that collect data."""
