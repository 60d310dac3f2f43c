"""The glue to MMDetection."""
