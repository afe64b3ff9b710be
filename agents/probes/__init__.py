"""Probes: readouts fitted on frozen latents."""
