"""Small networks that are fitted on the frozen latents of a dataset: rewards, distances and policies for goals."""
