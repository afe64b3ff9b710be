"""Policies on frozen latents: how they are trained, compared and shown."""
