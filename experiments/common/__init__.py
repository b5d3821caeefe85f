"""What several methods share: layers, positions, masking, losses, optimisation."""
