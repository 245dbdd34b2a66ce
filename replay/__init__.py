"""What was so: at any moment, and between any two."""
