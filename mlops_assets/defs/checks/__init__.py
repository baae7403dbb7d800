"""The asset checks: contracts of tables, and the gates of candidates."""
