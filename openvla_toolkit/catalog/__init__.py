"""What is known of published models and data sets, as tables (YAML beside this file) and their readers."""
