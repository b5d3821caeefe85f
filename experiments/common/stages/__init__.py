"""Bases of stages that several methods share."""
