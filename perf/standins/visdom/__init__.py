"""Stands in for visdom in the benchmark's processes: adv-lib imports it for a live display that is not used here."""
