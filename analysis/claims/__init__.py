"""Claims: one theorem, bound or observation each; their evidence, and how they are checked."""
