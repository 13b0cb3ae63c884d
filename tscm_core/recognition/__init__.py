"""One image's journey, from pixels to a decision."""
