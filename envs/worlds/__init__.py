"""The worlds, one file each. Every module here registers its own and is imported by `import envs`."""
