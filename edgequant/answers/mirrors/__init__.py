"""What answers the questions: the mirrors."""
