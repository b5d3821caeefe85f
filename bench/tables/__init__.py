"""Records -> the boards' tables, and what is printed and exported of them."""
