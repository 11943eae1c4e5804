"""The system Docker: steps run in a container, without network, on inputs that they can only read."""
