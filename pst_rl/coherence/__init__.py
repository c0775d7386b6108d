"""Labels without labels: claims are labelled so that each is predictable from all the others (ICM, and relatives)."""
