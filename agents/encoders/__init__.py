"""Encoders: frames to latents. Each maps normalised float frames [N, C, H, W] to latents [N, latent_dim]."""
