"""Names in other people's weights that several methods share."""
