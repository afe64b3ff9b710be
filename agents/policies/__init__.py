"""What Stable-Baselines3's policies see of worlds: frozen latents, pixels, or the true state."""
