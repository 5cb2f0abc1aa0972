"""ppal_fast beside the libraries people would use instead: `make bench` runs every contest of this folder."""
