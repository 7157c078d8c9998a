"""What an adapted model is worth: comparison tables and costs."""
