"""What the learners and query rules are worth: accuracy from few labels, on tables with and without a known ceiling."""
