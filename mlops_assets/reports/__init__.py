"""What is shown of a judged version: its card, and the pictures and tables of its report."""
