"""The training zoo: recipes (one a file in ``recipes/``), one training loop, grids of runs.

    recipes/<name>.py ─► loop.train ─► finish.write_submission ─► a folder that `curveboard submit` takes
      what is minimised    epochs,         weights, card
                           checkpoints

To add a recipe, add a file to ``recipes/`` that holds ``RECIPE = MyRecipe()``.
"""
