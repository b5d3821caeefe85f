"""A method's stages as a graph: what there is to run, what identifies it, what it takes."""
