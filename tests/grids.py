"""A grid of four tiny runs on digits."""

GRID = """
name = "grid"
dataset = "digits"
seeds = [0, 1]

[settings]
epochs = 1
batch_size = 64
optimiser = "adamw"
lr = 2e-3
augmentation = "none"

[[choices.architecture]]
label = "w8"
architecture = "mlp"
arguments = { inputs = 64, hidden = [8], outputs = 10 }

[[choices.method]]
label = "std"
recipe = "standard"

[[choices.method]]
label = "at"
recipe = "pgd-at"
parameters = { eps = 0.1, step = 0.03, steps = 2 }
settings = { lr = 4e-3 }
"""
