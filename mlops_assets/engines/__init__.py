"""Where tables are computed. One engine per file, each with the same functions."""
