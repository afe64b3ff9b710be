"""Experiments: grids of cells, how they are done, and what their reports tell."""
