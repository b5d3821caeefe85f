"""A linear SVM on where a clip lies in its video."""
