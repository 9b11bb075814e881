"""One exported model, one labelled task."""
