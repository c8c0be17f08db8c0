"""Stands in for torchvision in the benchmark's processes: adv-lib imports it for attacks that are not run here."""
