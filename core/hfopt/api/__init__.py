"""What plugins build on: base classes and the data that crosses between them."""
