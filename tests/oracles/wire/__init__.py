"""What chatctl and a cloud say to each other, recorded and held against the service models of botocore."""
