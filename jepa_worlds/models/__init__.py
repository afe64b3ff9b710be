"""World models: how they are trained, kept, and taken over from elsewhere."""
