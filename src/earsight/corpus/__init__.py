"""What there is to learn from: scanned files, their segments, labels, splits and batches."""
