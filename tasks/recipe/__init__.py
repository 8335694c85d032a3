"""The recipe: everything that a person says about a model, in one YAML file.

`loading.read_recipe` reads a file and names every mistake in it, `recipe.Recipe` is the whole
schema, and each section has a module of its own, named as the stage that it configures.
"""
