"""Two rows of a board on the clips that both were measured on."""
