"""Models of other frameworks as torch modules: their forward pass, and its vector–Jacobian product."""
