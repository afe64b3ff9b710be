"""Predictors: where latents go under actions. Each maps a context [B, K, D] and actions [B, H, A] to [B, H, D]."""
