"""What watches a run: signs of a collapse, and a probe of fixed questions."""
