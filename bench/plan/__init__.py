"""A method's stages as a graph: what is to be run, what identifies it, and what it costs."""
