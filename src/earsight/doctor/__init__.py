"""What this machine and this installation can do, and what is missing."""
