"""What several heads are built of: necks, SAM's mask decoder, the layers of SMP."""
