"""Values of land-cover labels that are not classes."""

IGNORE = 255  # label of pixels that neither train nor count
