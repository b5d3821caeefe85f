"""Executes one stage: data, network and Trainer -> weights, predictions, a record."""
