"""Integration with MMDetection: operators, building, settings, records, and the base of the two-stage heads.

No module here imports MMDetection before a head is built; those of `heads.mmdet.registered` do.
"""
