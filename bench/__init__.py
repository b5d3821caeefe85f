"""The harness: knows nothing of any one method or dataset."""
