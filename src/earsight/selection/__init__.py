"""Selection: what is compared with what. It returns rows, and never scores a loss."""
