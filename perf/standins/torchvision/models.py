"""Nothing: adv-lib's perceptual distance, which is not used here, would take its networks from this module."""
