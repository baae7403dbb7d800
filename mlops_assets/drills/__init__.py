"""Fault drills: each breaks one thing on purpose and tells which guard said so.

They run in a scratch home, on a made-up model of which the truth is known, through the parts that
run in production. What guards is theirs; nothing here is used outside of drills.
"""
