"""What is checked of a bundle before anything in it is loaded."""
