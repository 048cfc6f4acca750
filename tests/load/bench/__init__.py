"""Side-by-side measurements of Seam: `make bench`."""
