"""The boards, methods and runs as one HTML file."""
