"""What is done to a data set before it is trained on: converted, verified, looked at. Training imports none of it."""
