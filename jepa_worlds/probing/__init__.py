"""What a frozen model holds, and why."""
