"""How much memory a run will take, from configurations alone."""
