"""Environments of other libraries. Every module here that has one registers it and is imported by `import envs`."""
