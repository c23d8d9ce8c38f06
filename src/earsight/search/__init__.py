"""What was learned, put to use: embeddings of anyone's files, and what is near them."""
