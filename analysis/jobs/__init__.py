"""Jobs: what is computed once, where it runs, and where its results are kept."""
