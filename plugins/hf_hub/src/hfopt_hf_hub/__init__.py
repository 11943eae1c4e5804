"""Models and files from the Hugging Face hub."""
