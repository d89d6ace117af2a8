"""What is installed here, what is missing, and whether it works."""
