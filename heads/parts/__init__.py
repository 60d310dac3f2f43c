"""Parts that several heads share: necks, SAM's mask decoder, the layers of SMP."""
