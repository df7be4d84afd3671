"""What builds and checks the component. Runs where it is built, never on a device."""
