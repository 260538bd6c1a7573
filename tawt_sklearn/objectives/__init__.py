"""What the networks learn from: losses, and what their scores mean."""
