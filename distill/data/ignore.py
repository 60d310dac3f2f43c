"""What labels of land cover say beside classes."""

IGNORE = 255  # label of pixels that neither train nor count
