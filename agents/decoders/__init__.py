"""Decoders: latents to frames. Each maps latents [N, latent_dim] to normalised float frames [N, C, H, W]."""
