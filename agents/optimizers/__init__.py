"""Optimisers that PyTorch does not have."""
