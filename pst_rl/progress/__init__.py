"""What is said while something works: phases that are opened anywhere, and who shows them."""
