"""From records to measured tables, labels and formatted numbers."""
