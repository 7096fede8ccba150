"""`seal-bench`: commands that measure what this project claims."""
