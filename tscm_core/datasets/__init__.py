"""Where images and poses come from."""
