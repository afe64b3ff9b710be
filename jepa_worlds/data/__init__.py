"""Datasets: how they are collected, written, read, sampled and imported."""
