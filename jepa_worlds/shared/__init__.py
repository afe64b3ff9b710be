"""What all commands share: configuration, files, run folders, jobs, and how they are stopped."""
