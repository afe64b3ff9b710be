"""What plans are judged by: terms over imagined latents, one file each, and how they become one cost."""
