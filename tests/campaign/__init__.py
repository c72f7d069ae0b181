"""Faults by the thousand: kills, damaged files, mutated inputs, hostile paths, full disks, several processes at once.

`python -m tests.campaign --minutes 20` runs until the time is over and prints a table: what was tried, what was lost,
what was wrong, how often a traceback was seen, and how often something was executed. All but the first have to be 0.
CI runs a short one with fixed seeds (`tests/test_campaign.py`)."""
